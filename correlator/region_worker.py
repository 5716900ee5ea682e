"""The region on Kafka: one Faust consumer of the domains' digests, that writes verdicts.

Any number may run: the topic has one partition, so one of them judges and the others stand by.
Committed offsets decide nothing: whoever judges first reads all that the topic holds. A verdict
leaves only when all is read that was there when it fell due, so two who both judge for a moment,
after a stop of a process, say the same.
"""

import asyncio
import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import faust
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from faust.types import TP, EventT, StreamT

from correlator.faust_app import Stoppable, make_app, record_of
from correlator.lease import SharedLease
from correlator.live import OffsetJumpError
from correlator.region import Answer, Region
from correlator.signatures import Signer
from firstfault.log import Log, LogError, Record, between
from firstfault.log.frames import FrameWriter
from schemas.control import Domain, DomainMap
from schemas.inputs import FRAME_INPUTS_MAX
from schemas.kafka import KafkaSettings
from schemas.topics import LOG, REGION

GROUP = "firstfault.region"
AGAIN_S = 0.2
"""Pause before something is tried again that could not be written."""
QUEUE_MAX = 256
"""Digests that wait to be judged."""
DRAIN_S = 1.0
"""What is decided may take so long to be written at a clean stop."""


@dataclass(frozen=True)
class RegionSettings:
    """One region, and the domains it judges for."""

    kafka: KafkaSettings
    domains: DomainMap
    name: str
    """Its name in the log, without its kind: region:NAME."""
    instance: str | None = None
    private_key: Ed25519PrivateKey | None = None
    """Signs the verdicts; none: nothing is signed."""


@dataclass(frozen=True)
class RegionHooks:
    """Who is told while a region runs."""

    on_answer: Callable[[Answer, int], None]
    """Of what is told to domains, and when, microseconds since 1970."""
    on_trouble: Callable[[str], None]
    """Of what went wrong and is tried again, in a sentence."""


class _Outbox:
    """What one domain is still to be told: of each resource the newest, so it is bounded."""

    def __init__(self, writer: FrameWriter, signer: Signer | None, hooks: RegionHooks) -> None:
        self._writer, self._signer, self._hooks = writer, signer, hooks
        self._waiting: dict[str, Answer] = {}
        self._at_us = 0
        """Of the last verdicts: their stamps count up, whatever the clock does."""
        self.task: asyncio.Task[None] | None = None

    def put(self, answers: Iterable[Answer]) -> None:
        """Let these leave, in place of what waits of the same resources."""
        for one in answers:
            self._waiting.pop(one.resource, None)
            self._waiting[one.resource] = one
        if self.task is None or self.task.done():
            self.task = asyncio.ensure_future(self._flush())

    def drop(self) -> None:
        """Let nothing more leave: another judges now, and tells all anew."""
        self._waiting.clear()
        if self.task is not None:
            self.task.cancel()

    async def _flush(self) -> None:
        while self._waiting:
            some = list(self._waiting.values())[:FRAME_INPUTS_MAX]
            for one in some:
                del self._waiting[one.resource]
            try:
                await self._write(some)
            except LogError as error:
                self._hooks.on_trouble(f"not told yet: {error}")
                self._waiting = {one.resource: one for one in some} | self._waiting
                await asyncio.sleep(AGAIN_S)

    async def _write(self, answers: list[Answer]) -> None:
        self._at_us = max(_wall_us(), self._at_us + 1)
        verdicts = [one.verdict(self._at_us) for one in answers]
        if self._signer is not None:
            verdicts = [self._signer.signed(one) for one in verdicts]
        await self._writer.write(verdicts)


class RegionWorker(Stoppable):
    """Judges while the topic of the region is assigned to it."""

    def __init__(self, settings: RegionSettings, log: Log, hooks: RegionHooks) -> None:
        super().__init__()
        self._settings, self._log, self._hooks = settings, log, hooks
        self._lease = SharedLease(log, settings.name, lambda: ((), ()), time.monotonic)
        self._outboxes = [self._outbox(one) for one in settings.domains.domains]
        self._queue: asyncio.Queue[Record] = asyncio.Queue(QUEUE_MAX)
        self._region = Region(settings.domains)
        self._next_offset = -1
        """Of the record that is folded next; -1 before all that was there has been read."""
        self._judging: asyncio.Task[None] | None = None
        kafka = settings.kafka
        self._app = make_app(kafka, settings.name, GROUP, settings.instance)
        topic = self._app.topic(kafka.named(REGION), value_type=bytes)
        self._app.agent(topic, name="region")(self._take)
        self._app.on_partitions_assigned.connect(cast("Any", self._on_assigned), weak=False)

    def _outbox(self, domain: Domain) -> _Outbox:
        key, generation = self._settings.private_key, self._settings.domains.log_generation
        signer = None if key is None else Signer(key, domain.name, generation)
        source = f"region:{self._settings.name}"
        writer = FrameWriter(self._log, domain.name, source, domain.partition)
        return _Outbox(writer, signer, self._hooks)

    def progress(self) -> dict[int, int]:
        """Return the offset that is folded next, where it judges; another thread may ask."""
        return {0: self._next_offset} if self._judging is not None else {}

    def counts(self) -> Mapping[str, int]:
        """Return what became of the digests; another thread may ask."""
        return self._region.counts.copy()

    async def run(self) -> None:
        """Judge until `stop`; write what is decided, leave the group.

        Raises:
            LogError: it cannot go on.
        """
        listening = self._watched(self._lease.listen())
        await self._started(self._app)
        await self._stopping.wait()
        for task in (listening, self._judging):
            if task is not None:
                task.cancel()
        writing = [one.task for one in self._outboxes if one.task is not None]
        if writing and self._error is None:
            await asyncio.wait(writing, timeout=DRAIN_S)
        for task in writing:
            task.cancel()
        await self._left(self._app)
        if self._error is not None:
            raise self._error

    # ---- what comes ------------------------------------------------------------------------

    async def _take(self, stream: StreamT[bytes]) -> None:
        events: AsyncIterable[EventT[bytes]] = cast("Any", stream).events()
        async for event in events:
            await self._queue.put(record_of(event))

    async def _on_assigned(self, _: faust.App, assigned: Iterable[TP], **__: object) -> None:
        is_ours = any(one.topic == self._settings.kafka.named(REGION) for one in assigned)
        if is_ours and self._judging is None:
            self._judging = self._watched(self._judge())
        elif not is_ours and self._judging is not None:
            self._judging.cancel()
            self._judging = None
            for outbox in self._outboxes:
                outbox.drop()

    def _fold(self, record: Record) -> None:
        """Fold a record that is the next one; one that was read before changes nothing."""
        if record.offset > self._next_offset:
            msg = f"{REGION}: offset {record.offset} came where {self._next_offset} was due"
            raise OffsetJumpError(msg)
        if record.offset == self._next_offset:
            self._region.fold(record.value, record.log_us, _now_us())
            self._next_offset += 1

    # ---- what is said ----------------------------------------------------------------------

    async def _judge(self) -> None:
        """Read all that is there, and answer what stands; then what comes, for ever."""
        self._region, self._next_offset = Region(self._settings.domains), -1
        for partition in {one.partition for one in self._settings.domains.domains}:
            await self._log.prepare((LOG,), partition)
        span = await self._log.span(REGION)
        self._next_offset = span.first
        async for records in between(self._log, REGION, span):
            for record in records:
                self._fold(record)
        while True:
            await self._read_on()
            if self._is_due():
                try:
                    await self._read_to((await self._log.span(REGION)).end)
                except LogError as error:
                    self._hooks.on_trouble(f"no verdict yet: {error}")
                else:
                    self._answer()

    async def _read_on(self) -> None:
        """Fold what comes, until something is due."""
        due_us = self._region.due_us()
        wait_s = None if due_us is None else max(0.0, (due_us - _now_us()) / 1e6)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                self._fold(await self._queue.get())
        self._read_waiting()

    async def _read_to(self, end: int) -> None:
        """Fold what is there up to an offset."""
        while self._next_offset < end:
            self._fold(await self._queue.get())
        self._read_waiting()

    def _read_waiting(self) -> None:
        while not self._queue.empty():
            self._fold(self._queue.get_nowait())

    def _is_due(self) -> bool:
        due_us = self._region.due_us()
        return due_us is not None and due_us <= _now_us()

    def _answer(self) -> None:
        domains = self._settings.domains.domains
        spoken = {one.name for one in domains if self._lease.is_heard(one.partition)}
        answers = self._region.answers(_now_us(), spoken)
        for domain, outbox in zip(domains, self._outboxes, strict=True):
            outbox.put(one for one in answers if one.is_for(domain.name))
        for one in answers:
            self._hooks.on_answer(one, _wall_us())


def _now_us() -> int:
    """Return the time of one's own clock, which never goes back."""
    return time.monotonic_ns() // 1_000


def _wall_us() -> int:
    return time.time_ns() // 1_000
