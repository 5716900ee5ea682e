"""``firstfault run --local``: one process, one file, no broker.

Reads the log of a folder, folds it, and appends what is said to the topics of the same file. Time
is the log's: a tick is appended when a deadline falls due, and at least once a second.
"""

import asyncio
import fcntl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from correlator.engine import Engine
from correlator.live import Fold, Told, Voice, key_of
from correlator.rules import RuleSet
from correlator.state import EngineState
from correlator.topology import Topology
from firstfault.log import Log, LogError, Message, Record
from firstfault.log.frames import FrameWriter
from schemas.base import canonical, document_of
from schemas.inputs import OwnerClaim, Tick
from schemas.outputs import Action, Decision, Incident
from schemas.topics import ACTIONS, DEAD_LETTERS, DECISIONS, INCIDENTS, LOG

LOOK_S = 0.005
"""How often it is asked at the least when a tick is due. The design's 50 ms would be all there is
from a cut to its notice; asking costs microseconds, and a tick leaves only when it is due."""
LOCK = "correlator.lock"
TOPIC_OF = {Incident: INCIDENTS, Decision: DECISIONS, Action: ACTIONS}

OnTold = Callable[[Told], None]


@dataclass(frozen=True)
class Site:
    """What a correlator works on."""

    domain: str
    topology: Topology
    rules: RuleSet
    owner: str = "correlator:local"


class Correlator:
    """Folds one domain of a log for ever, and publishes what may leave."""

    def __init__(self, log: Log, site: Site, on_told: OnTold = lambda _: None) -> None:
        self._log = log
        self._site = site
        self._on_told = on_told
        self._writer = FrameWriter(log, site.domain, site.owner)
        self._voice = Voice(self._writer.prefix)
        self._published = -1
        state = EngineState(site.domain, site.topology, site.rules.hash, ticks="recorded")
        self._engine = Engine(state, site.rules)
        self._fold = Fold(self._engine, next_offset=0)

    async def run(self) -> None:
        """Fold what is there, claim the right to speak, and go on until cancelled."""
        span = await self._log.span(LOG)
        self._fold.next_offset = span.first
        caught_up = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(span.first, span.end, caught_up))
            await caught_up.wait()
            epoch = self._engine.state.epoch
            await self._writer.write([OwnerClaim(owner=self._site.owner, supersedes=epoch)])
            tasks.create_task(self._tick())

    async def _read(self, first: int, end: int, caught_up: asyncio.Event) -> None:
        if first >= end:
            caught_up.set()
        async for records in self._log.read(LOG, first):
            await self._publish([one for record in records for one in self._take(record)])
            self._published = records[-1].offset
            if records[-1].offset + 1 >= end:
                caught_up.set()

    def _take(self, record: Record) -> list[Told]:
        told = self._fold.take(record)
        for given in self._fold.heard:
            counts = self._engine.state.epoch == record.offset
            self._voice.hears(given, self._fold.frame_id, counts=counts)
        return self._voice.leaving(told)

    async def _publish(self, told: list[Told]) -> None:
        by_topic: dict[str, list[Message]] = {}
        for one in told:
            topic = TOPIC_OF.get(type(one.output), DEAD_LETTERS)
            value = canonical(document_of(one.output)).encode()
            by_topic.setdefault(topic, []).append(Message(key_of(one.output), value))
            self._on_told(one)
        # All at once, so that they share a commit: each costs as long as the disk takes.
        await asyncio.gather(*(self._log.append(*one) for one in by_topic.items()))

    async def _tick(self) -> None:
        while True:
            now_us = time.time_ns() // 1000
            ahead_s = self._fold.tick_due_us(now_us) / 1e6
            await asyncio.sleep(min(LOOK_S, ahead_s) if ahead_s > 0 else LOOK_S)
            now_us = time.time_ns() // 1000
            if self._voice.may_speak and self._fold.is_tick_due(now_us):
                await self._writer.write([self._tick_now()])

    def _tick_now(self) -> Tick:
        epoch = self._engine.state.epoch or 0
        return Tick(owner=self._site.owner, epoch=epoch, published_through=self._published)


@asynccontextmanager
async def alone(folder: Path) -> AsyncIterator[None]:
    """Hold a folder for one correlator.

    Raises:
        LogError: another process runs one there.
    """
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            msg = f"{folder}: another correlator runs on this log"
            raise LogError(msg) from None
        yield
