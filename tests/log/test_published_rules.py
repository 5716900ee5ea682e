"""Rule sets by hash in the topic of control: published, activated, recovered, recorded."""

import asyncio
import shutil
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from correlator.library import Library
from correlator.rules import RuleFaults, load_pack
from correlator.rules.bundle import files_of, rules_of
from firstfault.log import LogError, Message
from firstfault.log.control import parts_of, publish_rules, read_rules
from firstfault.log.local import LocalLog, open_local
from firstfault.packs import find_pack
from firstfault.playback import open_playback
from schemas.base import canonical, document_of
from schemas.control import PART_CHARACTERS, PARTS_MAX, RuleFiles
from schemas.topics import CONTROL, DECISIONS, LOG, MESSAGE_BYTES_MAX
from tests.cli.conftest import invoke
from tests.log.test_local_run import ONE, PATIENCE_S, frame, unique
from tests.log.test_local_run import correlator as running
from tests.log.test_shell import Clock, Follower, happen, said

GENERIC = files_of(find_pack("generic"))
HASH = load_pack(find_pack("generic")).hash
NAME = "0" * 32


def activation(number: int, name: str = HASH) -> Message:
    command = {"type": "command", "command": "activate_rules", "target": f"rules:{name}"}
    return Message("default", frame(number, {**command, "by": "x:y", "command_id": f"c{number}"}))


def in_log(folder: Path, story) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    async def whole() -> None:
        log = open_local(folder, clock=Clock())
        try:
            await story(log)
        finally:
            await log.close()

    asyncio.run(whole())


def reasons(decisions: list[dict[str, str]]) -> list[str]:
    return [one["reason"] for one in decisions if one["reason"].startswith("rules_")]


# ---- as bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", ["generic", "ip-core", "nfvi"])
def test_a_pack_is_the_same_rule_set_from_its_published_files(pack: str) -> None:
    rules = load_pack(find_pack(pack))
    again = rules_of(rules.hash, files_of(find_pack(pack)))
    assert (again.hash, again.name, again.version) == (rules.hash, rules.name, rules.version)
    assert (again.levels, again.signals) == (rules.levels, rules.signals)


def test_other_files_than_the_hash_says_are_no_rule_set() -> None:
    with pytest.raises(RuleFaults, match=f"published as rules:{NAME}, and is rules:{HASH}"):
        rules_of(NAME, GENERIC)


@pytest.mark.parametrize("path", ["../a.yaml", "/a.yaml", "a/../../b.yaml", "a//b", "", "a\0b"])
def test_no_file_leaves_its_folder(path: str) -> None:
    with pytest.raises(ValidationError, match="no path inside a folder"):
        RuleFiles(pack="a", files={path: "kind: settings"})
    with pytest.raises(ValidationError, match="no path inside a folder"):
        RuleFiles(pack=path, files={"a.yaml": "kind: settings"})


def test_what_is_large_is_split_and_counts_once_it_is_whole(tmp_path: Path) -> None:
    text = '"\\ä€𝄞' * PART_CHARACTERS
    files = RuleFiles(pack="a", files={"a/pack.yaml": text})
    parts = [
        Message(one.key, canonical(document_of(one)).encode()) for one in parts_of(NAME, files)
    ]
    assert len(parts) > 5
    assert max(len(one.value) for one in parts) < MESSAGE_BYTES_MAX

    async def story(log: LocalLog) -> None:
        for bad in (b"garbage", canonical({"rules": NAME, "part": 9, "parts": 1, "text": ""})):
            value = bad if isinstance(bad, bytes) else bad.encode()
            await log.append(CONTROL, [Message(f"rules:{NAME}/7", value)])
        await log.append(CONTROL, parts[1:])
        assert await read_rules(log) == {}
        await log.append(CONTROL, parts[:1])
        assert await read_rules(log) == {NAME: files}
        assert not await publish_rules(log, NAME, files)
        too_large = RuleFiles(pack="a", files={"a": "x" * PART_CHARACTERS * PARTS_MAX})
        with pytest.raises(LogError, match="over 8000000"):
            await publish_rules(log, HASH, too_large)

    in_log(tmp_path, story)


# ---- in a fold -----------------------------------------------------------------------------


def test_a_set_that_is_published_after_the_start_is_learnt_before_its_command_is_folded(
    tmp_path: Path,
) -> None:
    async def story(log: LocalLog) -> None:
        speaker = await (await Follower(log).recover()).speak()
        await log.append(LOG, [activation(1)])
        await speaker.read()
        await publish_rules(log, HASH, GENERIC)
        escaped = activation(2).value.replace(b"activate_rules", b"activate\\u005frules")
        await log.append(LOG, [Message("default", escaped)])
        await speaker.read()
        assert reasons(await said(log, DECISIONS)) == ["rules_unknown", "rules_activated"]
        assert speaker.shell.partition.domains["default"].fold.engine.rules.hash == HASH

    in_log(tmp_path, story)


def test_a_start_finds_the_rules_of_its_snapshot_among_the_published(tmp_path: Path) -> None:
    async def story(log: LocalLog) -> None:
        await publish_rules(log, HASH, GENERIC)
        speaker = await (await Follower(log).recover()).speak()
        await log.append(LOG, [activation(1)])
        await happen(log, 1, ONE)
        await speaker.read()
        await speaker.shell.snapshot(records=1)
        again = await Follower(log).recover()
        before, after = (
            one.shell.partition.domains["default"].fold.engine for one in (speaker, again)
        )
        assert after.rules.hash == before.rules.hash == HASH
        assert after.state.sightings == before.state.sightings != {}

    in_log(tmp_path, story)


def test_a_set_that_is_not_what_it_is_called_is_told_and_refused(tmp_path: Path) -> None:
    trouble: list[str] = []

    async def story(log: LocalLog) -> None:
        await publish_rules(log, NAME, GENERIC)
        await publish_rules(log, "1" * 32, RuleFiles(pack="a", files={"a": "", "a/pack.yaml": ""}))
        library = Library(log, trouble.append)
        assert [await library.find(name * 32) for name in "01"] == [None, None]
        assert [one[:6] for one in trouble] == ["rules:", "rules:"]
        follower = await (await Follower(log).recover()).speak()
        await log.append(LOG, [activation(1, NAME)])
        await follower.read()
        assert reasons(await said(log, DECISIONS)) == ["rules_unknown"]

    in_log(tmp_path, story)


# ---- from the command line ------------------------------------------------------------------


def own_pack(folder: Path) -> Path:
    """Return a pack that nobody ships, with the schema that it names beside it."""
    shutil.copytree(find_pack("generic"), folder / "mine")
    shutil.copy(find_pack("generic").parent / "topology-schema.yaml", folder)
    extra = "kind: symptom\nname: app.gone\nmatch: {signal: app.hb.lost}\n"
    (folder / "mine" / "more.yaml").write_text(extra)
    return folder / "mine"


async def answered(log: LocalLog, wanted: list[str]) -> None:
    """Wait until all has been said of rule sets that is to be; a kill may have one said twice."""
    end_s = time.monotonic() + PATIENCE_S
    while reasons(unique(await said(log, DECISIONS))) != wanted:
        assert time.monotonic() < end_s
        await asyncio.sleep(0.05)


def test_a_pack_is_published_activated_recorded_and_replayed(tmp_path: Path) -> None:
    site, pack = tmp_path / "site", own_pack(tmp_path / "own")
    name = load_pack(pack).hash
    both = ["rules_activated", "rules_unknown"]

    async def story() -> None:
        log = open_local(site)
        with running(site):
            await log.append(LOG, [Message("default", frame(1, {"type": "tick"}))])
            wrong = "rules activate {} --reason x --by operator:a --local {}"
            refused = await asyncio.to_thread(invoke, wrong, pack, site, code=2)
            assert "firstfault rules publish does that" in refused.stderr
            told = await asyncio.to_thread(invoke, "rules publish {} --local {}", pack, site)
            assert f"rules:{name} published" in told.stdout
            shutil.rmtree(pack)  # Nobody reads it there from now on.
            command = f"rules activate {name[:8]} --reason x --by operator:a --wait 30s"
            await asyncio.to_thread(invoke, f"{command} --local {{}}", site)
            await answered(log, both[:1])
        with running(site):
            await log.append(LOG, [activation(2, NAME)])
            await answered(log, both)
        await log.close()

    asyncio.run(story())
    recorded = invoke("record {} --local {}", tmp_path / "out", site)
    assert f"rules:{NAME} was made active, and is not published" in recorded.stderr
    for recording in (site, tmp_path / "out"):
        playback = open_playback(recording, rules="nfvi")
        again = [document_of(one.output) for one in playback.outputs()]
        assert (reasons(again), playback.unknown_rules) == (both, {NAME})
