"""Runs the sources of one collector and brings what they tell into the log.

Inputs wait in one bounded queue and leave as frames; a source waits where the queue is full, and
lists the world anew afterwards. While the log cannot be reached, events wait on the disk and leave
behind live frames with their own `at`. A source that fails is started again; the runner goes on.
"""

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from collectors.source import Clock, Context, Source, now
from collectors.spool import Spool
from firstfault.log import LogError
from schemas.base import EntityId
from schemas.inputs import FRAME_INPUTS_MAX, Event, Input, Level

LINGER_S = 0.002
"""How long a frame waits for more inputs: 2-5 ms, and 50 ms is all there is from cut to notice."""
QUEUE_MAX = 4_096
"""Inputs that wait to be framed; with 400 bytes each under 2 MB."""
SEND_S_MAX = 5.0
"""A log that has not acknowledged by then is out of reach; a broker elects a leader in less."""
PROBE_S = 0.5
"""How often one live frame asks whether the log is back."""
RESTART_S_MAX = 30.0
"""The longest wait before a source that keeps failing is started again."""
HEALTHY_S = 60.0
"""A source that ran so long is started again at once."""
MISSED_LEVELS_MAX = 3
"""A source that has listed nothing for so many periods does not do its work."""

Write = Callable[[Sequence[Input]], Awaitable[object]]
OnTrouble = Callable[[str], None]


@dataclass
class _Running:
    """What is known of a source that runs."""

    has_lists: bool = False
    heard_s: float = 0.0
    is_up: bool = False


@dataclass
class Collector:
    """One collector; `run` ends only when it is cancelled."""

    observer: EntityId
    sources: Mapping[str, Source]
    write: Write
    spool: Spool
    clock: Clock = now
    on_trouble: OnTrouble = field(default=lambda _: None)
    """Told one sentence each time something goes wrong, or is well again."""
    queue_max: int = QUEUE_MAX
    send_s_max: float = SEND_S_MAX

    def __post_init__(self) -> None:
        """Know nothing yet of the sources and of the log."""
        self.counts: Counter[str] = Counter()
        """What happened how often: restarts, frames, inputs, spooled, unspooled, dropped."""
        self.queued_max = 0
        """The most inputs that have waited at once."""
        self._queue: asyncio.Queue[Input] = asyncio.Queue(self.queue_max)
        self._running = {name: _Running() for name in self.sources}
        self._is_reachable = True
        self._probe_s = 0.0

    async def run(self) -> None:
        """Run all sources, and bring what they tell into the log."""
        async with asyncio.TaskGroup() as tasks:
            for name, source in self.sources.items():
                tasks.create_task(self._keep(name, source))
            tasks.create_task(self._deliver())

    def sources_ok(self) -> list[str]:
        """Return which sources do their work: they run, and list what stands when they should."""
        now_s = time.monotonic()
        return [name for name, one in self._running.items() if self._is_ok(name, one, now_s)]

    def _is_ok(self, name: str, one: _Running, now_s: float) -> bool:
        patience_s = MISSED_LEVELS_MAX * self._context(name).level_s
        return one.is_up and one.has_lists and now_s - one.heard_s < patience_s

    # ---- sources ---------------------------------------------------------------------------

    def _context(self, name: str) -> Context:
        return Context(self.observer, name, self.clock, sources_ok=self.sources_ok)

    async def _keep(self, name: str, source: Source) -> None:
        """Run a source for ever, with growing pauses where it keeps failing."""
        while True:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(Exception),
                wait=wait_random_exponential(multiplier=0.5, max=RESTART_S_MAX),
                before_sleep=partial(self._failed, name),
            ):
                with attempt:
                    await self._once(name, source)

    async def _once(self, name: str, source: Source) -> None:
        """Run a source until it fails; a failure after a long healthy run counts as the first."""
        begun_s = time.monotonic()
        try:
            await self._until_it_ends(name, source)
        except Exception as error:
            if time.monotonic() - begun_s < HEALTHY_S:
                raise
            self._say(f"{name}: {_words(error)}; started again")
        finally:
            self._running[name].is_up = False

    async def _until_it_ends(self, name: str, source: Source) -> None:
        running = self._running[name]
        async with aclosing(source(self._context(name))) as inputs:
            async for one in inputs:
                running.is_up = True
                if isinstance(one, Level):
                    running.has_lists, running.heard_s = True, time.monotonic()
                await self._queue.put(one)
                self.queued_max = max(self.queued_max, self._queue.qsize())
        msg = "it has ended by itself"
        raise RuntimeError(msg)

    async def _failed(self, name: str, state: RetryCallState) -> None:
        self.counts["restarts"] += 1
        error = state.outcome.exception() if state.outcome else None
        pause_s = state.next_action.sleep if state.next_action else 0.0
        self._say(f"{name}: {_words(error)}; started again in {pause_s:.1f} s")

    # ---- the log ---------------------------------------------------------------------------

    async def _deliver(self) -> None:
        """Send live frames as they come, and what waits on the disk when nothing else does."""
        while True:
            if self._queue.empty() and self._is_reachable and self.spool.count:
                await self._send_spooled()
                continue
            batch = [await self._queue.get()]
            await asyncio.sleep(LINGER_S)
            while len(batch) < FRAME_INPUTS_MAX and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            if not await self._send(batch):
                self._keep_events(batch)

    async def _send(self, batch: Sequence[Input]) -> bool:
        """Append a frame; claim that the log has acknowledged it."""
        if not self._is_reachable and time.monotonic() < self._probe_s:
            return False
        try:
            async with asyncio.timeout(self.send_s_max):
                await self.write(batch)
        except (LogError, TimeoutError, OSError) as error:
            self._lost(error)
            return False
        if not self._is_reachable:
            self._is_reachable = True
            self._say(f"the log is back; {self.spool.count} events wait on the disk")
        self.counts["frames"] += 1
        self.counts["inputs"] += len(batch)
        return True

    def _lost(self, error: Exception) -> None:
        if self._is_reachable:
            self._say(f"the log cannot be reached ({_words(error)}); events wait on the disk")
        self._is_reachable = False
        self._probe_s = time.monotonic() + PROBE_S

    def _keep_events(self, batch: Sequence[Input]) -> None:
        events = [one for one in batch if isinstance(one, Event)]
        dropped = self.spool.dropped
        if events:
            self.spool.add(events)
        self.counts["spooled"] += len(events)
        self.counts["dropped"] += self.spool.dropped - dropped

    async def _send_spooled(self) -> None:
        try:
            kept = self.spool.first()
            if kept and await self._send([one.event for one in kept]):
                self.spool.forget(kept[-1].number)
                self.counts["unspooled"] += len(kept)
        except (sqlite3.Error, ValueError) as error:
            # What cannot be read now cannot be later: the next list says what still stands.
            self._say(f"the spool cannot be read ({_words(error)}); what is in it is left")
            self.counts["dropped"] += self.spool.count
            self.spool.count = 0

    def _say(self, sentence: str) -> None:
        self.on_trouble(f"{self.observer}: {sentence}")


def _words(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}" if error is not None else "unknown"
