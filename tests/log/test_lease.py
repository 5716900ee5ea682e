"""Who may speak: by beats that are heard, and only while one hears oneself."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from correlator.lease import SILENCE_S, SharedLease
from firstfault.log import LogError, Message, Record, Span


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Beats:
    """A lease topic: what is appended is heard by those that ask for it."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.fails = False

    async def append(self, topic: str, messages: Sequence[Message], partition: int = 0) -> int:
        if self.fails:
            raise LogError(f"{topic}/{partition}: no answer in time")
        offset = len(self.records)
        self.records += [
            Record(offset + number, 0, one.key, one.value) for number, one in enumerate(messages)
        ]
        return offset

    async def prepare(self, topics: Sequence[str], partition: int = 0) -> None:
        raise NotImplementedError

    def read(self, topic: str, offset: int, partition: int = 0) -> AsyncIterator[list[Record]]:
        raise NotImplementedError

    async def delete(self, topic: str, keys: Sequence[str], partition: int = 0) -> None:
        raise NotImplementedError

    async def span(self, topic: str, partition: int = 0) -> Span:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


class Workers:
    """Two workers and the beats between them; the first may hold partition 0."""

    def __init__(self) -> None:
        self.clock, self.beats = Clock(), Beats()
        self.held: list[int] = []
        self.holder = SharedLease(self.beats, "w1/1-1", lambda: (self.held, [0]), self.clock)
        self.other = SharedLease(self.beats, "w2/2-2", lambda: ([], [0]), self.clock)

    def pass_s(
        self, seconds: float, *, beating: Sequence[SharedLease], hearing: bool = True
    ) -> None:
        """Let time pass in tenths of a second."""
        for _ in range(round(seconds * 10)):
            self.clock.now_s += 0.1
            start = len(self.beats.records)
            for lease in beating:
                asyncio.run(lease.renew())
            for record in self.beats.records[start:] if hearing else ():
                self.holder.hear(record)
                self.other.hear(record)


@pytest.fixture
def workers() -> Workers:
    return Workers()


def test_nobody_claims_before_having_listened_for_as_long_as_a_silence_lasts(
    workers: Workers,
) -> None:
    workers.pass_s(0.3, beating=[workers.other])
    assert not workers.other.may_claim(0)
    workers.pass_s(0.2, beating=[workers.other])
    assert workers.other.may_claim(0)


def test_what_another_speaks_for_is_free_only_after_its_silence(workers: Workers) -> None:
    workers.held = [0]
    workers.pass_s(2.0, beating=[workers.holder, workers.other])
    assert not workers.other.may_claim(0)
    assert workers.other.may_claim(1)
    workers.pass_s(0.2, beating=[workers.other])
    assert not workers.other.may_claim(0)
    workers.pass_s(0.2, beating=[workers.other])
    assert workers.other.may_claim(0)


def test_who_was_stopped_hears_first_what_was_said_meanwhile(workers: Workers) -> None:
    """The other is stopped, not silent: ten seconds of beats wait for it."""
    workers.held = [0]
    workers.pass_s(1.0, beating=[workers.holder, workers.other])
    start = len(workers.beats.records)
    workers.pass_s(10.0, beating=[workers.holder], hearing=False)
    assert not workers.other.may_claim(0)  # It does not hear itself.
    asyncio.run(workers.other.renew())
    for record in workers.beats.records[start:]:
        workers.other.hear(record)
        assert not workers.other.may_claim(0)


def test_a_holder_that_was_stopped_knows_that_its_term_is_over(workers: Workers) -> None:
    workers.held = [0]
    workers.pass_s(1.0, beating=[workers.holder, workers.other])
    term = workers.holder.term
    assert workers.holder.is_fresh()
    workers.clock.now_s += 1.01 * SILENCE_S
    assert not workers.holder.is_fresh()
    asyncio.run(workers.holder.renew())
    assert workers.holder.is_fresh()
    assert workers.holder.term == term + 1


def test_a_beat_that_is_not_written_keeps_nothing_fresh(workers: Workers) -> None:
    workers.pass_s(1.0, beating=[workers.holder])
    workers.beats.fails = True
    workers.clock.now_s += 1.01 * SILENCE_S
    with pytest.raises(LogError):
        asyncio.run(workers.holder.renew())
    assert not workers.holder.is_fresh()


def test_a_claim_in_the_log_counts_as_a_beat(workers: Workers) -> None:
    workers.pass_s(1.0, beating=[workers.other])
    assert workers.other.may_claim(0)
    workers.other.yields(0)
    assert not workers.other.may_claim(0)


def test_garbage_on_the_topic_of_beats_is_nobodys(workers: Workers) -> None:
    workers.pass_s(1.0, beating=[workers.other])
    workers.other.hear(Record(0, 0, "w1", b"garbage"))
    assert workers.other.may_claim(0)
