"""Who speaks: beats on the lease topic, outside the log.

A holder beats each 100 ms; only after 300 ms without one may another claim. This reads the shell's
own clock: it decides who speaks, never what is true. Source: the wire page, "Who may emit".
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Protocol

from pydantic import ValidationError

from firstfault.log import Log, LogError, Message, Record
from schemas.base import canonical, document_of
from schemas.topics import LEASE
from schemas.worker import LeaseBeat

BEAT_S = 0.1
SILENCE_S = 0.3
"""So long after the last beat of its holder a lease is free."""
TAKEN_OVER_S = 1.0
"""A take-over is over within half of it."""
Holding = tuple[Iterable[int], Iterable[int]]
"""Partitions that a worker speaks for, and those that it could speak for."""


class Lease(Protocol):
    """The right to speak for partitions, as one worker sees it."""

    @property
    def term(self) -> int:
        """Counts up each time that one's own beats had stopped: another may have claimed."""
        ...

    def is_fresh(self) -> bool:
        """Claim that nobody else could claim as of now, since one's own beats are heard."""
        ...

    def may_claim(self, partition: int) -> bool:
        """Claim that nobody speaks for a partition."""
        ...

    def yields(self, partition: int) -> None:
        """Know from the log that another has just claimed a partition."""
        ...

    async def renew(self) -> None:
        """Beat now; return once the beat is written.

        Raises:
            LogError: it cannot be written.
        """
        ...


class Alone:
    """The lease of a worker that no other shares a log with."""

    term = 0

    def is_fresh(self) -> bool:
        """See `Lease.is_fresh`."""
        return True

    def may_claim(self, partition: int) -> bool:
        """See `Lease.may_claim`."""
        return True

    def yields(self, partition: int) -> None:
        """See `Lease.yields`."""

    async def renew(self) -> None:
        """See `Lease.renew`."""


class SharedLease:
    """The lease of one worker of several.

    Each beats, also one that holds nothing: who does not hear itself hears nobody, and may not take
    the silence for another's. After a stop of the process all beats that came meanwhile are read
    before one's own.
    """

    def __init__(
        self, log: Log, owner: str, held: Callable[[], Holding], clock: Callable[[], float]
    ) -> None:
        self._log, self._owner, self._held, self._clock = log, owner, held, clock
        self.term = 0
        self._beat_s = -SILENCE_S
        """When one's own last beat was sent that is written."""
        self._itself_s = -SILENCE_S
        """When one last heard oneself."""
        self._since_s = 0.0
        """Since when one hears oneself."""
        self._others_s: dict[int, float] = {}
        """partition → when another was last heard that speaks for it"""

    def is_fresh(self) -> bool:
        """See `Lease.is_fresh`."""
        return self._clock() - self._beat_s < SILENCE_S

    def may_claim(self, partition: int) -> bool:
        """See `Lease.may_claim`."""
        now_s = self._clock()
        if now_s - self._itself_s >= SILENCE_S:
            return False
        return now_s - max(self._since_s, self._others_s.get(partition, 0.0)) >= SILENCE_S

    def yields(self, partition: int) -> None:
        """See `Lease.yields`."""
        self._others_s[partition] = self._clock()

    def is_heard(self, partition: int) -> bool:
        """Claim that another speaks for a partition: only a take-over may have come between."""
        return self._clock() - self._others_s.get(partition, -TAKEN_OVER_S) < TAKEN_OVER_S

    async def renew(self) -> None:
        """See `Lease.renew`."""
        now_s = self._clock()
        held, followed = self._held()
        beat = LeaseBeat(owner=self._owner, partitions=sorted(held), follows=sorted(followed))
        value = canonical(document_of(beat)).encode()
        await self._log.append(LEASE, [Message(self._owner.partition("/")[0], value)])
        if now_s - self._beat_s >= SILENCE_S:
            self.term += 1
        self._beat_s = max(now_s, self._beat_s)

    def hear(self, record: Record) -> None:
        """Take in a beat; what is none is passed over."""
        try:
            beat = LeaseBeat.model_validate_json(record.value)
        except ValidationError:
            return
        now_s = self._clock()
        if beat.owner != self._owner:
            self._others_s.update(dict.fromkeys(beat.partitions, now_s))
            return
        if now_s - self._itself_s >= SILENCE_S:
            self._since_s = now_s
        self._itself_s = now_s

    async def listen(self) -> None:
        """Hear beats for ever."""
        span = await self._log.span(LEASE)
        async for records in self._log.read(LEASE, span.end):
            for record in records:
                self.hear(record)

    async def beat(self) -> None:
        """Beat for ever; a beat that cannot be written is passed over, the next is due soon."""
        while True:
            started_s = time.monotonic()
            with suppress(LogError):
                await self.renew()
            await asyncio.sleep(max(0.0, BEAT_S - (time.monotonic() - started_s)))
