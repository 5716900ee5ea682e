"""A log, recorded: a replay of it says what the fold of the log said."""

import asyncio
import json
from pathlib import Path

import pytest
import zstandard

from correlator.live import Fold, Live, Partition, Voice
from correlator.replay import engine_for
from correlator.signing import Verifier
from firstfault.log import Log, LogError, Message
from firstfault.log.control import publish_domains
from firstfault.log.local import all_records, open_local
from firstfault.playback import Listeners, open_playback, open_site, parse_moment
from firstfault.recording import EVENTS, Stretch, first_since, record, whole
from schemas.base import canonical, document_of
from schemas.control import Domain, DomainMap
from schemas.outputs import DeadLetter
from schemas.topics import LOCAL_FILE, LOG
from tests.cli.conftest import invoke
from tests.log.recorded import (
    ONE,
    RULES,
    TOPOLOGY,
    commands,
    crash,
    everything,
    folded,
    frame,
    replayed,
    ticks,
)
from tests.signed import key_set

SECOND_US = 1_000_000
START_US = 1_795_000_000 * SECOND_US


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A local log of two domains, a message each 100 ms by its clock."""
    folder = tmp_path / "site"
    clock = iter(range(START_US, START_US + 1_000 * SECOND_US, SECOND_US // 10))

    async def fill() -> None:
        log = open_local(folder, clock=lambda: next(clock))
        for message in (*everything(), *ticks(30)):
            await log.append(LOG, [message])
        one = Domain(name="pod-1", partition=0, topology=str(TOPOLOGY))
        await publish_domains(log, DomainMap(domains=[one, Domain(name="pod-2", partition=0)]), 1)
        await log.close()

    asyncio.run(fill())
    return folder


def test_a_recorded_log_replays_to_what_its_fold_said(site: Path, tmp_path: Path) -> None:
    live = folded(all_records(site / LOCAL_FILE, LOG))
    assert sum('"type":"incident"' in line for line in live) > 2
    told = json.loads(
        invoke("record {} --local {} --domain pod-1 --output json", tmp_path / "out", site).stdout
    )
    assert replayed(tmp_path / "out") == live
    assert (told["doubles"], told["others"], told["unread"]) == (1, 31, 4)
    assert (tmp_path / "out" / "topology.json").read_bytes() == TOPOLOGY.read_bytes()


def test_what_was_not_believed_live_is_not_believed_in_a_replay(tmp_path: Path) -> None:
    keys = key_set()

    async def fill() -> None:
        log = open_local(tmp_path / "site")
        for message in (*commands(), *everything(), *ticks(3)):
            await log.append(LOG, [message])
        await record(log, Stretch("pod-1"), tmp_path / "out")
        await log.close()

    asyncio.run(fill())
    verifier = Verifier.from_start("pod-1", "0", [keys])
    live = folded(all_records(tmp_path / "site" / LOCAL_FILE, LOG), verifier=verifier)
    assert replayed(tmp_path / "out", keys) == live
    assert sum("operator:op-7" in line for line in live) == 1
    believed = sum("operator:op-7" in line for line in replayed(tmp_path / "out"))
    assert believed == 3  # Without keys nobody is asked, live or not.


def test_a_local_log_replays_to_what_its_partition_said(tmp_path: Path) -> None:
    claim = {"type": "owner_claim", "owner": "correlator:local"}
    clock = iter(range(START_US, START_US + 1_000 * SECOND_US, SECOND_US // 10))

    async def fill() -> None:
        log = open_local(tmp_path, clock=lambda: next(clock))
        await log.append(LOG, [Message("pod-2", frame(1, *crash(ONE), domain="pod-2"))])
        await log.append(LOG, [Message("pod-1", frame(1, claim, boot="claims"))])
        for message in (*everything(), *everything(), *ticks(30)):
            await log.append(LOG, [message])
        await log.close()

    asyncio.run(fill())
    rules, topology, _ = open_site(RULES, TOPOLOGY)
    live = Live(Fold(engine_for(topology, rules, "pod-1", "recorded"), 1), Voice("x/"))
    partition = Partition(1, {"pod-1": live})
    told = []
    for one in all_records(tmp_path / LOCAL_FILE, LOG):
        live.voice.may_speak = True
        partition.take(one)
        told += partition.leaving()
        partition.published()
    said = [
        f"{one.offset} {one.log_us} {canonical(document_of(one.output))}"
        for one in told
        if not isinstance(one.output, DeadLetter)
    ]
    letters = [(one.offset, one.output.code) for one in told if isinstance(one.output, DeadLetter)]
    playback = open_playback(tmp_path, rules=RULES, topology=TOPOLOGY)
    assert playback.recording.header.domain == "pod-1"
    found: list[DeadLetter] = []
    list(playback.outputs(Listeners(on_dead_letter=found.append)))
    assert [(one.position, one.code) for one in found] == letters
    assert replayed(tmp_path) == said
    assert sum('"type":"incident"' in line for line in said) > 2


def test_each_domain_has_its_own_recording(site: Path, tmp_path: Path) -> None:
    live = folded(all_records(site / LOCAL_FILE, LOG), "pod-2")
    invoke("record {} --local {} --domain pod-2", tmp_path / "out", site)
    assert replayed(tmp_path / "out") == live != []
    told = invoke("record {} --local {}", tmp_path / "other", site, code=2).output
    assert "--domain takes one of pod-1, pod-2" in told
    told = invoke("record {} --local {} --domain pod-3", tmp_path / "other", site, code=2).output
    assert "no domain pod-3" in told


def lines(folder: Path) -> list[dict[str, object]]:
    with zstandard.open(folder / EVENTS, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_a_stretch_of_time_is_what_lies_in_it(site: Path, tmp_path: Path) -> None:
    command = "record {} --local {} --domain pod-1 --from +2s --to +4s"
    invoke(command, tmp_path / "out", site)
    header, *found = lines(tmp_path / "out")
    assert header["domain"] == "pod-1"
    assert [line["offset"] for line in found] == list(range(21, 41, 2))


@pytest.mark.parametrize("late_us", [-1, 0, 1, 2_050_000, 7_300_000, 7_400_000, 100_000_000])
def test_the_first_record_since_a_time_is_found_by_halving(site: Path, late_us: int) -> None:
    stamps = {one.offset: one.log_us for one in all_records(site / LOCAL_FILE, LOG)}
    wanted = START_US + late_us

    async def story() -> tuple[int, int]:
        log = open_local(site)
        span = await log.span(LOG)
        found = await first_since(log, 0, span, wanted)
        await log.close()
        return found, span.end

    found, end = asyncio.run(story())
    assert found == min((at for at, us in stamps.items() if us >= wanted), default=end)


def test_a_recording_stands_only_once_it_is_whole(site: Path, tmp_path: Path) -> None:
    class BrokenError(Exception):
        pass

    def stop(_done: int, _all: int) -> None:
        raise BrokenError

    async def story() -> None:
        log = open_local(site)
        try:
            await record(log, Stretch("pod-1"), tmp_path / "out", stop)
        finally:
            await log.close()

    with pytest.raises(BrokenError):
        asyncio.run(story())
    assert list((tmp_path / "out").iterdir()) == []
    invoke("record {} --local {} --domain pod-1", tmp_path / "out", site)
    again = invoke("record {} --local {} --domain pod-1", tmp_path / "out", site, code=2)
    assert "a recording already" in again.output


def test_a_log_without_a_map_has_the_domain_of_its_first_frame(tmp_path: Path) -> None:
    async def story() -> None:
        log: Log = open_local(tmp_path)
        with pytest.raises(LogError, match="no frame that can be read"):
            await whole(log, None)
        await log.append(LOG, [Message("k", b"?"), Message("k", frame(1, {"type": "tick"}))])
        assert await whole(log, None) == Stretch("pod-1")
        assert await whole(log, "pod-9") == Stretch("pod-9")
        await log.close()

    asyncio.run(story())


def test_where_the_log_is_must_be_said_once(tmp_path: Path) -> None:
    for options in ("", "--local a --kafka b:1"):
        assert "give either" in invoke("record {} " + options, tmp_path / "out", code=2).output
    assert "no log there" in invoke("record o --local {}", tmp_path, code=2).output
    assert "give either" in invoke("replay", code=2).output
    assert "give either" in invoke("replay a --kafka b:1", code=2).output


def test_a_time_that_is_none_is_said(site: Path, tmp_path: Path) -> None:
    told = invoke("record {} --local {} --from noon", tmp_path / "out", site, code=2)
    assert "--from noon" in told.output
    assert parse_moment("+2s").after(START_US) == START_US + 2 * SECOND_US
