"""The correlator on Kafka: Faust shares the partitions among workers, a `Shell` folds each.

Faust hands over what it reads, and commits what is acknowledged here. What is said leaves by the
log's own producer, which is idempotent; Faust's is not: a broker's end doubled one in seven.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import faust
from faust.types import TP, EventT, StreamT

from correlator.faust_app import Stoppable, make_app, record_of
from correlator.lease import Holding, SharedLease
from correlator.library import Library
from correlator.shell import Means, OnTold, Shell, Site
from firstfault.log import Log, LogError
from schemas.kafka import KafkaSettings
from schemas.topics import LOG

GROUP, STANDBY = "firstfault.correlator", "firstfault.standby"
"""Groups of consumers: in each of them every partition has one worker."""
QUEUE_MAX = 256
"""Records of a partition that wait to be folded; past it Faust stops reading, which is meant."""
LOOK_S = 0.05
"""Pause where there is nothing to look at, or what was asked for could not be appended."""
SNAPSHOT_S = 10.0
DRAIN_S = 2.0
"""What was read may take so long to be folded at a clean stop."""


@dataclass(frozen=True)
class Hooks:
    """Who is told while a worker runs."""

    on_told: OnTold
    """Of what has left."""
    on_trouble: Callable[[str], None]
    """Of what went wrong and stops nothing, in a sentence."""
    on_recovered: Callable[[], None] = lambda: None
    """Each time that a partition is ready."""


@dataclass(frozen=True)
class WorkerSettings:
    """One worker, and what it may fold."""

    kafka: KafkaSettings
    sites: Mapping[int, Sequence[Site]]
    """partition → its domains"""
    owner: str
    """Its name in the log, e.g. worker-1."""
    group: str = GROUP
    instance: str | None = None
    """Static membership: a restart within the session moves no partition."""


# ---- one partition -------------------------------------------------------------------------


@dataclass
class _Reader:
    """A partition that is assigned to us: what was read of it, and the shell that folds it."""

    shell: Shell
    on_recovered: Callable[[], None]
    on_folded: Callable[[Shell], None]
    waiting: "asyncio.Queue[EventT[bytes]]" = field(
        default_factory=lambda: asyncio.Queue(QUEUE_MAX)
    )
    open: deque[EventT[bytes]] = field(default_factory=deque)
    """In hand, and not acknowledged: what is said of them has not left."""
    task: "asyncio.Task[None] | None" = None

    async def run(self) -> None:
        """Recover, and fold what comes for ever."""
        await self.shell.recover()
        self.on_recovered()
        self.on_folded(self.shell)
        while True:
            events = [await self.waiting.get()]
            while not self.waiting.empty():
                events.append(self.waiting.get_nowait())
            self.open.extend(events)
            await self.shell.fold([record_of(event) for event in events])
            self.on_folded(self.shell)
            while self.open and self.open[0].message.offset <= self.shell.published:
                self.open.popleft().ack()

    def leave(self) -> None:
        """Fold no more, and let go whoever waits to hand something over."""
        if self.task is not None:
            self.task.cancel()
        while not self.waiting.empty():
            self.waiting.get_nowait()

    @property
    def is_idle(self) -> bool:
        """Claim that all that was read is folded and acknowledged."""
        return not self.open and self.waiting.empty()


# ---- the worker ----------------------------------------------------------------------------


class Worker(Stoppable):
    """Folds the partitions that are assigned to it."""

    def __init__(self, settings: WorkerSettings, log: Log, snapshots: Log, hooks: Hooks) -> None:
        """See `Means` for the two logs."""
        super().__init__()
        self._settings, self._hooks = settings, hooks
        self._boot = f"{settings.owner}/{os.getpid()}-{time.time_ns()}"
        self._lease = SharedLease(log, self._boot, self._held, time.monotonic)
        self._means = Means(
            log, snapshots, self._lease, hooks.on_told, Library(log, hooks.on_trouble)
        )
        self._readers: dict[int, _Reader] = {}
        self._sooner = asyncio.Event()
        self._look_s = 0.0
        """When it is looked next, own clock"""
        self.snapshots = 0
        self.snapshot_failures = 0
        self._app = make_app(settings.kafka, settings.owner, settings.group, settings.instance)
        topic = self._app.topic(settings.kafka.named(LOG), value_type=bytes)
        self._app.agent(topic, name="log")(self._take)
        self._app.on_partitions_assigned.connect(cast("Any", self._on_assigned), weak=False)

    def shells(self) -> dict[int, Shell]:
        """Return the partitions that are assigned to it now; another thread may ask."""
        return {number: reader.shell for number, reader in list(self._readers.items())}

    def progress(self) -> dict[int, int]:
        """See `Shell.progress`, of each partition."""
        return {number: shell.progress for number, shell in self.shells().items()}

    def counts(self) -> dict[str, int]:
        """Return what was counted; another thread may ask."""
        return {"snapshots": self.snapshots, "snapshot_failures": self.snapshot_failures}

    async def run(self) -> None:
        """Work until `stop`; fold what was read, snapshot, commit, leave the group.

        Raises:
            LogError: it cannot go on; what was not published is not acknowledged.
        """
        is_started = await self._started(self._app)
        chores = [self._lease.listen(), self._lease.beat(), self._looks(), self._snapshots()]
        tasks = [self._watched(chore) for chore in chores]
        await self._stopping.wait()
        if is_started and self._error is None:
            await self._drain()
        for task in tasks:
            task.cancel()
        for reader in self._readers.values():
            reader.leave()
        await self._left(self._app)
        if self._error is not None:
            raise self._error

    # ---- what comes ------------------------------------------------------------------------

    async def _take(self, stream: StreamT[bytes]) -> None:
        """Hand each record to its partition; it is acknowledged there."""
        events: AsyncIterable[EventT[bytes]] = cast("Any", stream).noack().events()
        async for event in events:
            reader = self._readers.get(event.message.partition) or self._opened(event.message.tp)
            if reader is None:
                event.ack()
            else:
                await reader.waiting.put(event)

    async def _on_assigned(self, _: faust.App, assigned: Iterable[TP], **__: object) -> None:
        numbers = {one.partition for one in assigned}
        for number in [one for one in self._readers if one not in numbers]:
            self._readers.pop(number).leave()
        for number in sorted(numbers):
            if number not in self._readers:
                self._open(number)

    def _opened(self, place: TP) -> _Reader | None:
        """Open a partition that Faust reads before it says so; what is left of one gone is none."""
        return self._open(place.partition) if place in self._app.consumer.assignment() else None

    def _open(self, number: int) -> _Reader | None:
        sites = self._settings.sites.get(number)
        if not sites:
            return None  # No domain is there.
        shell = Shell(self._means, number, sites)
        reader = self._readers[number] = _Reader(shell, self._hooks.on_recovered, self._hastens)
        reader.task = self._watched(reader.run())
        return reader

    # ---- now and then ----------------------------------------------------------------------

    def _held(self) -> Holding:
        shells = [(number, reader.shell) for number, reader in self._readers.items()]
        ready = [number for number, shell in shells if shell.is_ready]
        return [number for number, shell in shells if shell.may_speak], ready

    async def _looks(self) -> None:
        while True:
            shells = [reader.shell for reader in self._readers.values()]
            with suppress(LogError):  # A claim or a tick: what is still due is asked for again.
                await asyncio.gather(*(shell.look() for shell in shells if shell.ahead_s() <= 0))
            ahead_s = min([shell.ahead_s() for shell in shells], default=LOOK_S)
            # Not above 0: the look before failed, and is not to be tried without a pause.
            pause_s = ahead_s if ahead_s > 0 else LOOK_S
            self._sooner.clear()
            self._look_s = time.monotonic() + pause_s
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._sooner.wait()

    def _hastens(self, shell: Shell) -> None:
        """Look sooner where what was just folded has a deadline before the next look."""
        if time.monotonic() + shell.ahead_s() < self._look_s:
            self._sooner.set()

    async def _snapshots(self) -> None:
        while True:
            await asyncio.sleep(SNAPSHOT_S)
            await self._snapshot()

    async def _snapshot(self, **records: int) -> None:
        """Write what is due; a snapshot that fails costs only time, at the next start."""
        for reader in list(self._readers.values()):
            if not reader.shell.is_ready:
                continue
            try:
                self.snapshots += await reader.shell.snapshot(**records)
            except LogError as error:
                self.snapshot_failures += 1
                self._hooks.on_trouble(f"no snapshot was written, the one before stands: {error}")

    async def _drain(self) -> None:
        """Take no more input, fold what was read, and write a snapshot."""
        consumer = self._app.consumer
        assignment = consumer.assignment()
        consumer.stop_flow()
        self._app.flow_control.suspend()
        if assignment:
            consumer.pause_partitions(assignment)
        self._app.flow_control.clear()
        try:
            async with asyncio.timeout(DRAIN_S):
                while not all(reader.is_idle for reader in self._readers.values()):  # noqa: ASYNC110 - bounded
                    await asyncio.sleep(0.01)
                await self._snapshot(records=1)
        except TimeoutError:
            text = "not all that was read is folded: it is read again at the next start"
            self._hooks.on_trouble(text)
