"""The shell over a log: what leaves, what waits, who speaks, and where a start begins."""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from correlator import snapshot_store
from correlator.live import Told
from correlator.shell import Means, Shell, Site
from correlator.snapshot_store import SnapshotStore
from correlator.snapshots import Cut
from firstfault.log import Log, LogError, Message, Record, Span, between
from firstfault.log.local import LocalLog, Retention, all_records, open_local
from firstfault.playback import open_site
from schemas.outputs import Action
from schemas.topics import ACTIONS, DEAD_LETTERS, DECISIONS, INCIDENTS, LOG, SNAPSHOTS
from tests.log.test_local_run import ONE, OTHER, TOPOLOGY, crash, frame

SITE = Site("default", *reversed(open_site("nfvi", TOPOLOGY)[:2]))


@dataclass
class Right:
    """A lease that a test gives and takes."""

    term: int = 0
    fresh: bool = True
    free: bool = True
    yielded: list[int] = field(default_factory=list)

    def is_fresh(self) -> bool:
        return self.fresh

    def may_claim(self, partition: int) -> bool:
        return self.free and partition == 0

    def yields(self, partition: int) -> None:
        self.yielded.append(partition)

    async def renew(self) -> None:
        self.fresh = True

    def lapse(self) -> None:
        """Let the process have been stopped, and gone on."""
        self.term += 1


class Follower:
    """A shell, and the records it has not been given yet."""

    def __init__(self, log: LocalLog, site: Site = SITE) -> None:
        self.log, self.right = log, Right()
        self.shell = Shell(Means(log, log, self.right, lambda _: None), 0, [site])

    async def recover(self) -> "Follower":
        await self.shell.recover()
        return self

    async def read(self, most: int | None = None) -> None:
        """Give it what the log holds, or so many records of it."""
        first, end = self.shell.partition.next_offset, (await self.log.span(LOG)).end
        end = end if most is None else min(end, first + most)
        async for records in between(self.log, LOG, Span(first, end)):
            await self.shell.fold(records)

    async def speak(self) -> "Follower":
        """Claim, and read the claim back."""
        await self.shell.look()
        await self.read()
        assert self.shell.may_speak
        return self


async def said(log: LocalLog, topic: str) -> list[dict[str, Any]]:
    span = await log.span(topic)
    return [json.loads(one.value) async for some in between(log, topic, span) for one in some]


class Clock:
    """The log's clock, that only a test moves."""

    def __init__(self) -> None:
        self.now_us = 1_795_428_000_000_000

    def __call__(self) -> int:
        return self.now_us


async def happen(log: LocalLog, number: int, app: str) -> None:
    """Append what a dead application shows, and ticks until it is explained."""
    await log.append(LOG, [Message("default", frame(10 * number + 1, *crash(app)))])
    assert isinstance(log.clock, Clock)
    for step in range(2, 6):
        log.clock.now_us += 500_000
        await log.append(LOG, [Message("default", frame(10 * number + step, {"type": "tick"}))])


Story = Callable[[LocalLog], Awaitable[None]]


def told(folder: Path, story: Story, retention: Retention | None = None) -> None:
    async def whole() -> None:
        log = open_local(folder, clock=Clock(), retention=retention)
        try:
            await story(log)
        finally:
            await log.close()

    asyncio.run(whole())


def test_a_record_counts_as_done_only_once_what_was_said_has_left(tmp_path: Path) -> None:
    async def story(log: LocalLog) -> None:
        speaker = await (await Follower(log).recover()).speak()
        before = speaker.shell.published
        await happen(log, 1, ONE)
        speaker.shell._log = _Refusing(log)  # noqa: SLF001 - the log that it has from now on
        with pytest.raises(LogError):
            await speaker.read()
        assert speaker.shell.published == before

    told(tmp_path, story)


class _Refusing:
    """A log that takes no outputs."""

    def __init__(self, log: LocalLog) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a log has
        return getattr(self._log, name)

    async def append(self, topic: str, messages: Sequence[Message], partition: int = 0) -> int:
        raise LogError(f"{topic}/{partition}: {len(messages)} refused")


def test_who_only_folds_along_says_nothing_and_goes_on_where_the_other_was(tmp_path: Path) -> None:
    async def story(log: LocalLog) -> None:
        first = await (await Follower(log).recover()).speak()
        second = await Follower(log).recover()
        second.right.free = False
        await happen(log, 1, ONE)
        for follower in (second, first):
            await follower.read()
            await second.shell.look()
        incidents = await said(log, INCIDENTS)
        assert len({one["incident_id"] for one in incidents}) == 1
        assert len({one["update"] for one in incidents}) == len(incidents)
        await happen(log, 2, OTHER)  # The first ends here, and never reads this.
        second.right.free = True
        await second.speak()
        incidents = await said(log, INCIDENTS)
        assert [one["causes"][0]["entity"] for one in incidents[-1:]] == [OTHER]
        keys = [one["idempotency_key"] for one in await said(log, ACTIONS)]
        epochs = {one["epoch"] for one in await said(log, ACTIONS)}
        assert len(epochs) == 2
        assert len(set(keys)) == 2

    told(tmp_path, story)


def test_who_was_stopped_reads_on_before_it_speaks_and_finds_itself_superseded(
    tmp_path: Path,
) -> None:
    async def story(log: LocalLog) -> None:
        stopped = await (await Follower(log).recover()).speak()
        other = await Follower(log).recover()
        await happen(log, 1, ONE)
        await other.speak()
        before = [await said(log, topic) for topic in (INCIDENTS, DECISIONS, ACTIONS)]
        assert before[2]
        stopped.right.lapse()
        await stopped.read(5)  # The fault is explained, and the claim after it is not yet read.
        assert stopped.shell.may_speak
        assert [await said(log, topic) for topic in (INCIDENTS, DECISIONS, ACTIONS)] == before
        await stopped.read()
        assert not stopped.shell.may_speak
        assert stopped.right.yielded
        assert [await said(log, topic) for topic in (INCIDENTS, DECISIONS, ACTIONS)] == before

    told(tmp_path, story)


def test_who_was_stopped_and_not_superseded_says_what_it_had_to_say(tmp_path: Path) -> None:
    async def story(log: LocalLog) -> None:
        stopped = await (await Follower(log).recover()).speak()
        await happen(log, 1, ONE)
        await log.append(LOG, [Message("default", b"garbage")])
        stopped.right.lapse()
        stopped.right.fresh = False
        await stopped.read(5)
        assert not await said(log, ACTIONS)
        await stopped.read()
        assert len(await said(log, ACTIONS)) == 1
        assert len(await said(log, DEAD_LETTERS)) == 1
        assert stopped.right.fresh

    told(tmp_path, story)


def test_only_one_tick_is_on_its_way_at_a_time(tmp_path: Path) -> None:
    async def story(log: LocalLog) -> None:
        speaker = await (await Follower(log).recover()).speak()
        await log.append(LOG, [Message("default", frame(1, *crash(ONE)))])
        await speaker.read()
        assert speaker.shell.partition.domains["default"].fold.engine.next_deadline_us()
        await asyncio.sleep(1.1)  # The look that the fault asks for has fallen due by now.
        end = (await log.span(LOG)).end
        for _ in range(5):
            await speaker.shell.look()
        assert (await log.span(LOG)).end == end + 1

    told(tmp_path, story)


def test_where_records_never_cease_a_tick_still_says_what_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1_000.0]
    own = SimpleNamespace(monotonic=lambda: now_s[0], perf_counter=time.perf_counter)
    monkeypatch.setattr("correlator.shell.time", own)

    async def story(log: LocalLog) -> None:
        one = await (await Follower(log).recover()).speak()
        published: list[int] = []
        for number in range(1, 31):
            now_s[0] += 0.1
            quiet = {"type": "event", "entity": "host:h1", "signal": "os.noise"}
            await log.append(LOG, [Message("default", frame(number, quiet))])
            await one.read()
            await one.shell.look()
            await one.read()
        for given in await said(log, LOG):
            published += [
                one["published_through"] for one in given["inputs"] if one["type"] == "tick"
            ]
        assert 3 <= len(published) <= 6  # At once, and each 0.75 s to 1 s of the three.
        assert published == sorted(set(published))

    told(tmp_path, story)


def test_a_frame_of_another_domain_is_a_dead_letter(tmp_path: Path) -> None:
    async def story(log: LocalLog) -> None:
        speaker = await (await Follower(log).recover()).speak()
        foreign = json.loads(frame(1, *crash(ONE))) | {"domain": "pod-9"}
        await log.append(LOG, [Message("pod-9", json.dumps(foreign).encode())])
        await speaker.read()
        (letter,) = await said(log, DEAD_LETTERS)
        assert letter["code"] == "unknown_domain"
        assert not await said(log, INCIDENTS)

    told(tmp_path, story)


def test_an_action_that_is_taken_back_while_nobody_speaks_is_taken_back_by_the_next(
    tmp_path: Path,
) -> None:
    """The engine says a revocation once; the action has left, and may not be done yet."""

    async def story(log: LocalLog) -> None:
        speaker = await (await Follower(log).recover()).speak()
        await happen(log, 1, ONE)
        await speaker.read()
        (action,) = await said(log, ACTIONS)
        follower = await Follower(log).recover()
        fold = follower.shell.partition.domains["default"].fold
        voice = follower.shell.partition.domains["default"].voice
        revoked = Action.model_validate(
            action | {"verb": "revoke", "idempotency_key": "r", "parameters": {"revokes": "a"}}
        )
        voice.says([Told(fold.next_offset, 0, revoked), Told(fold.next_offset, 0, _again(action))])
        await follower.speak()
        keys = [one["idempotency_key"] for one in await said(log, ACTIONS)]
        assert keys == [action["idempotency_key"], "r", action["idempotency_key"]]

    told(tmp_path, story)


def _again(action: dict[str, Any]) -> Action:
    return Action.model_validate(action | {"idempotency_key": "muted"})


# ---- snapshots -----------------------------------------------------------------------------


def test_a_start_goes_on_from_the_newest_snapshot(tmp_path: Path) -> None:
    async def story(log: LocalLog) -> None:
        first = await (await Follower(log).recover()).speak()
        await happen(log, 1, ONE)
        await first.read()
        assert await first.shell.snapshot(records=1) == 1
        offset = first.shell.partition.next_offset
        await happen(log, 2, OTHER)
        second = Follower(log)
        await second.recover()
        state = second.shell.partition.domains["default"].fold.engine.state
        assert {one.fault[1] for one in state.incidents.values()} == {ONE, OTHER}
        await first.read()
        live = first.shell.partition.domains["default"].fold.engine.state
        assert state.text() == live.text()
        assert offset < second.shell.partition.next_offset
        manifests = [one async for one in _manifests(log)]
        assert [one["offset"] for one in manifests] == [offset]

    told(tmp_path, story)


async def _manifests(log: LocalLog) -> Any:  # noqa: ANN401
    async for records in between(log, SNAPSHOTS, await log.span(SNAPSHOTS)):
        for one in records:
            if one.key.endswith("/manifest"):
                yield json.loads(one.value)


async def _with_snapshots(log: LocalLog, count: int) -> Follower:
    speaker = await (await Follower(log).recover()).speak()
    for number in range(count):
        await happen(log, number, ONE)
        await speaker.read()
        await speaker.shell.snapshot(records=1)
    return speaker


def test_only_the_newest_two_are_kept(tmp_path: Path) -> None:
    async def story(log: LocalLog) -> None:
        await _with_snapshots(log, 5)
        manifests = [one async for one in _manifests(log)]
        assert len(manifests) == 2
        span = await log.span(SNAPSHOTS)
        keys = [one.key async for some in between(log, SNAPSHOTS, span) for one in some]
        assert len(keys) == 2 + sum(one["count"] for one in manifests)

    told(tmp_path, story)


@pytest.mark.parametrize("part", ["manifest", "00000"])
def test_a_snapshot_that_is_not_whole_gives_way_to_the_one_before(
    tmp_path: Path, part: str
) -> None:
    async def story(log: LocalLog) -> None:
        speaker = await _with_snapshots(log, 2)
        newest = [one async for one in _manifests(log)][-1]
        await log.delete(SNAPSHOTS, [f"default/{newest['offset']}/{part}"])
        again = Follower(log)
        await again.recover()
        live = speaker.shell.partition.domains["default"].fold.engine.state
        state = again.shell.partition.domains["default"].fold.engine.state
        assert state.text() == live.text()

    told(tmp_path, story)


class _Cut:
    """A small one, which no fold is needed for."""

    domain, epoch, rules, log_generation = "d", 1, "r", "0"

    def __init__(self, offset: int) -> None:
        self.offset = offset

    def lines(self) -> Iterator[bytes]:
        yield b'["head",[{}]]'


def _store(log: Log) -> SnapshotStore:
    return SnapshotStore(log, "d", 0)


def _write(store: SnapshotStore, offset: int, *, has_left: bool = True) -> Awaitable[object]:
    return store.write(cast("Cut", _Cut(offset)), lambda _: has_left)


def test_a_snapshot_that_was_broken_off_hides_no_other_and_does_not_stay(tmp_path: Path) -> None:
    async def story(log: LocalLog) -> None:
        await log.append(SNAPSHOTS, [Message("d/5/00000", b"a chunk, and then a kill")])
        await log.append(SNAPSHOTS, [Message("other/5/00000", b"of a neighbour")])
        store = _store(log)
        await store.newest({"r"})
        for offset in range(10, 20):
            await _write(store, offset)
            found, _ = await _store(log).newest({"r"})
            assert found is not None
            assert found.manifest.offset == offset
        keys = {one.key for one in all_records(log.file, SNAPSHOTS)}
        assert keys == {"other/5/00000"} | {
            f"d/{offset}/{part}" for offset in (18, 19) for part in ("00000", "manifest")
        }

    told(tmp_path, story)


def test_snapshots_that_fail_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_store, "LEFT_S_MAX", 0.01)

    async def story(log: LocalLog) -> None:
        store = _store(log)
        for offset in range(20):
            with pytest.raises(LogError, match="has not left"):
                await _write(store, offset, has_left=False)
        await _write(store, 20)
        keys = {one.key for one in all_records(log.file, SNAPSHOTS)}
        assert keys == {"d/20/00000", "d/20/manifest"}

    told(tmp_path, story)


def test_a_new_domain_beside_a_busy_one_is_told_in_few_reads(tmp_path: Path) -> None:
    async def story(log: LocalLog) -> None:
        await log.append(SNAPSHOTS, [Message(f"busy/{one}/00000", b"x") for one in range(20_000)])
        counting = _Counting(log)
        store = _store(cast("Log", counting))
        assert await store.newest({"r"}) == (None, False)
        assert store.looked == 20_000
        assert counting.reads < 12

    told(tmp_path, story)


class _Counting:
    """A log that counts how often somebody begins to read it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.span = log.span
        self.reads = 0

    def read(self, topic: str, offset: int, partition: int = 0) -> AsyncIterator[list[Record]]:
        self.reads += 1
        return self._log.read(topic, offset, partition)


def test_a_log_without_its_beginning_and_without_a_snapshot_stops_with_a_sentence(
    tmp_path: Path,
) -> None:
    async def story(log: LocalLog) -> None:
        for _ in range(2):  # The second claim names the first, which is dropped.
            await (await Follower(log).recover()).speak()
            await happen(log, 1, ONE)
        await _keep_the_last(log, 8)
        with pytest.raises(LogError, match="a snapshot of what was before, does not meet it"):
            await Follower(log).recover()

    told(tmp_path, story)


def test_a_domain_that_is_new_on_an_old_log_begins_with_what_is_kept(tmp_path: Path) -> None:
    async def story(log: LocalLog) -> None:
        for number in range(10):
            await happen(log, number, ONE)
        await _keep_the_last(log, 8)
        await (await Follower(log).recover()).speak()

    told(tmp_path, story)


async def _keep_the_last(log: LocalLog, count: int) -> None:
    with sqlite3.connect(log.file) as db:
        end = (await log.span(LOG)).end
        db.execute(f'DELETE FROM "{LOG}" WHERE offset < ?', (end - count,))  # noqa: S608


def test_a_gap_between_snapshot_and_log_stops_with_a_sentence(tmp_path: Path) -> None:
    async def story(log: LocalLog) -> None:
        await _with_snapshots(log, 1)
        for number in range(50):
            await happen(log, 100 + number, ONE)

    told(tmp_path, story)

    async def trimmed(log: LocalLog) -> None:
        await _keep_the_last(log, 3)
        with pytest.raises(LogError, match="does not meet it"):
            await Follower(log).recover()

    told(tmp_path, trimmed)


class _Meanwhile:
    """A log on which something happens just before somebody looks for snapshots."""

    def __init__(self, log: LocalLog, happens: Callable[[], Awaitable[None]]) -> None:
        self._log, self._happens, self._has_happened = log, happens, False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._log, name)

    async def span(self, topic: str, partition: int = 0) -> Span:
        if topic == SNAPSHOTS and not self._has_happened:
            self._has_happened = True
            await self._happens()
        return await self._log.span(topic, partition)


def test_a_snapshot_that_is_written_while_another_starts_is_one_to_start_from(
    tmp_path: Path,
) -> None:
    async def story(log: LocalLog) -> None:
        speaker = await _with_snapshots(log, 1)

        async def goes_on() -> None:
            await happen(log, 60, ONE)
            await speaker.read()
            await speaker.shell.snapshot(records=1)

        again = Follower(cast("LocalLog", _Meanwhile(log, goes_on)))
        await again.recover()
        live = speaker.shell.partition.domains["default"].fold.engine.state
        state = again.shell.partition.domains["default"].fold.engine.state
        assert state.text() == live.text()

    told(tmp_path, story)


def test_two_snapshots_at_once_are_written_one_after_the_other(tmp_path: Path) -> None:
    async def story(log: LocalLog) -> None:
        speaker = await _with_snapshots(log, 3)
        await happen(log, 50, ONE)
        await speaker.read()
        first = asyncio.create_task(speaker.shell.snapshot(records=1))
        await asyncio.sleep(0)
        await happen(log, 51, ONE)
        await speaker.read()
        assert await speaker.shell.snapshot(records=1) + await first == 2
        assert type(speaker.shell.partition.domains["default"].fold.engine.state.incidents) is dict
        assert len([one async for one in _manifests(log)]) == 2

    told(tmp_path, story)


def test_a_failed_snapshot_gives_the_tables_back(tmp_path: Path) -> None:
    async def story(log: LocalLog) -> None:
        speaker = await (await Follower(log).recover()).speak()
        await happen(log, 1, ONE)
        await speaker.read()
        store = speaker.shell._stores["default"]  # noqa: SLF001 - the one that fails
        store._log = _Refusing(log)  # noqa: SLF001
        with pytest.raises(LogError):
            await speaker.shell.snapshot(records=1)
        assert type(speaker.shell.partition.domains["default"].fold.engine.state.incidents) is dict

    told(tmp_path, story)


def test_a_tick_that_cannot_be_true_silences_nobody(tmp_path: Path) -> None:
    forged = {"type": "tick", "owner": "nobody", "epoch": 0, "published_through": 10**12}

    async def story(log: LocalLog) -> None:
        speaker = await (await Follower(log).recover()).speak()
        given = json.loads(frame(1, forged)) | {"frame_id": "collector:x/b/1"}
        await log.append(LOG, [Message("default", json.dumps(given).encode())])
        await happen(log, 1, ONE)
        await speaker.shell.look()
        await happen(log, 3, ONE)
        await speaker.read()
        assert await said(log, ACTIONS)
        assert await said(log, DECISIONS)

    told(tmp_path, story)


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    "poison",
    [
        '{"type":"nonsense","x":' + _nested(300) + "}",
        '{"type":"event","entity":"app:a","signal":"x","source":"s","attrs":{"x":'
        + _nested(300)
        + "}}",
    ],
)
def test_what_is_nested_too_deep_is_a_dead_letter(tmp_path: Path, poison: str) -> None:
    text = f'{{"frame_id":"collector:p/b/1","domain":"default","inputs":[{poison}]}}'

    async def story(log: LocalLog) -> None:
        speaker = await (await Follower(log).recover()).speak()
        await log.append(LOG, [Message("default", text.encode())])
        await speaker.read()
        assert len(await said(log, DEAD_LETTERS)) == 1

    told(tmp_path, story)


def test_a_frame_number_of_many_digits_is_none(tmp_path: Path) -> None:
    endless = json.dumps(
        json.loads(frame(1, {"type": "tick"})) | {"frame_id": "c/b/" + "1" * 5_000}
    )

    async def story(log: LocalLog) -> None:
        speaker = await (await Follower(log).recover()).speak()
        await log.append(LOG, [Message("default", endless.encode())] * 2)
        await speaker.read()
        live = speaker.shell.partition.domains["default"].fold
        assert live.next_offset == (await log.span(LOG)).end
        assert "repeated_frames" not in live.engine.state.counters

    told(tmp_path, story)
