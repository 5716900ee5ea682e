"""Runs the verbs of one actuator: reads actions, asks the gate, carries out, answers.

What may run is the gate's to say (`firstfault.consumer`): once per key, in time, for the owner that
counts. Dry-run unless told to enforce. Bad messages cost themselves; a verb that raises or does not
end has an unknown outcome. What is not answered yet is owed on the disk, and told when it can be.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from actuators.verb import Verb
from correlator.signatures import Refused
from firstfault.consumer.duties import ACCEPTED_VERBS, Outcome, Turn, skew
from firstfault.consumer.gate import Gate
from firstfault.log import Log, LogError, Message, OffsetGoneError, Record
from schemas.outputs import Action
from schemas.topics import ACTIONS

RUNNING_MAX = 64
"""Actions carried out at once; further ones wait unread in the log."""
RUNTIME_S_MAX = 600.0
"""Of a verb whose action names no time of its own."""
PAY_S = 1.0
"""How often what is owed is tried again."""
PLACE_S = 5.0
"""How often it is noted how far was read, also where nothing is owed."""
FORGET_S = 3600.0

OnDone = Callable[[Action, Outcome], None]
OnTrouble = Callable[[str], None]


@dataclass
class Actuator:
    """One actuator; `run` ends only when it is cancelled."""

    log: Log
    gate: Gate
    verbs: Mapping[str, Verb]
    on_done: OnDone = field(default=lambda _action, _outcome: None)
    on_trouble: OnTrouble = field(default=lambda _: None)
    partition: int = 0

    def __post_init__(self) -> None:
        """Nothing runs yet."""
        self._room = asyncio.Semaphore(RUNNING_MAX)
        self._owes = asyncio.Event()
        self._read_to: int | None = None
        """Where to read on after a restart, once that is noted: what is read twice is known."""

    async def run(self) -> None:
        """Say how what was cut off has ended; then carry out what comes, for ever."""
        try:
            await self._run()
        finally:
            self.gate.ledger.close()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pay())
            for action in self.gate.ledger.unended():
                self.gate.running.add(action.idempotency_key)
                await self._start(tasks, action, is_again=True)
            async for records in self.log.read(ACTIONS, await self._first(), self.partition):
                for record in records:
                    await self._take(tasks, record)
                self._read_to = records[-1].offset + 1

    async def _first(self) -> int:
        """Return where to read on; what is no longer kept has expired long ago."""
        span = await self.log.span(ACTIONS, self.partition)
        place = self.gate.ledger.place(ACTIONS, self.partition)
        if place is not None and place > span.end:
            msg = f"{ACTIONS}: read up to {place} before, and now ends at {span.end}: another log"
            raise OffsetGoneError(msg)
        return max(span.first, place or 0)

    async def _take(self, tasks: asyncio.TaskGroup, record: Record) -> None:
        try:
            action = self.gate.read(record.value, record.log_us, self.partition)
        except Refused as refused:
            self.on_trouble(f"{ACTIONS} {record.offset}: {refused.reason}")
            return
        if not self.gate.is_ours(action):
            return
        turn = self.gate.look(action, _now_us(), record.log_us)
        if turn.do == "run" and action.verb in ACCEPTED_VERBS and action.reply_to:
            # The stamp of that answer tells whether our clock can be trusted with what expires.
            message = Message(action.reply_to.key, self.gate.message(action, "ACCEPTED", {}))
            await self._append(action.reply_to.topic, message, action.reply_to.partition or 0)
            turn = self.gate.look(action, _now_us(), record.log_us)
        if turn.do == "run":
            turn = self.gate.begin(action, _now_us(), record.log_us)
        await self._follow(tasks, action, turn)

    async def _follow(self, tasks: asyncio.TaskGroup, action: Action, turn: Turn) -> None:
        if turn.do in {"run", "ask"}:
            await self._start(tasks, action, is_again=turn.do == "ask")
        elif turn.outcome is not None:
            self.gate.answer(action, turn.outcome.state, turn.outcome.proof)
            self._owes.set()
            self.on_done(action, turn.outcome)

    async def _start(self, tasks: asyncio.TaskGroup, action: Action, *, is_again: bool) -> None:
        await self._room.acquire()
        tasks.create_task(self._carry_out(action, is_again=is_again))

    async def _carry_out(self, action: Action, *, is_again: bool) -> None:
        try:
            outcome = await self._outcome(action, is_again=is_again)
        finally:
            self._room.release()
        self.gate.end(action, outcome)
        self._owes.set()
        self.on_done(action, outcome)

    async def _outcome(self, action: Action, *, is_again: bool) -> Outcome:
        verb = self.verbs.get(action.verb)
        if verb is None:  # It was begun by an actuator of this name that had more verbs.
            return Outcome("UNKNOWN", {"reason": "no longer a verb of this actuator"})
        runtime_s = min(action.max_runtime_s or RUNTIME_S_MAX, RUNTIME_S_MAX)
        try:
            async with asyncio.timeout(runtime_s):
                return await verb(action, is_again=is_again)
        except TimeoutError:
            return Outcome("TIMED_OUT", {"reason": f"did not end within {runtime_s:g} s"})
        except Exception as error:  # noqa: BLE001 - whatever a verb raises, its end is unknown
            return Outcome("UNKNOWN", {"reason": f"{type(error).__name__}: {error}"})

    # ---- answers ---------------------------------------------------------------------------

    async def _pay(self) -> None:
        """Append the answers that are owed, the oldest first, until each is acknowledged."""
        forget_s = time.monotonic()
        while True:
            self._owes.clear()
            try:
                for owed in self.gate.ledger.owed():
                    await self._append(owed.topic, Message(owed.key, owed.value), owed.partition)
                    self.gate.ledger.paid(owed)
            except LogError as error:
                self.on_trouble(f"answers wait: {error}")
                await asyncio.sleep(PAY_S)
                continue
            self._note_place()
            if time.monotonic() - forget_s > FORGET_S:
                self.gate.ledger.forget(_now_us())
                forget_s = time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(PLACE_S):
                    await self._owes.wait()

    def _note_place(self) -> None:
        """Remember how far was read; not before an action runs, which waits for no disk twice."""
        if self._read_to is not None:
            self.gate.ledger.move(ACTIONS, self.partition, self._read_to)
            self._read_to = None

    async def _append(self, topic: str, message: Message, partition: int) -> None:
        """Append a message, and learn by its stamp how far our clock is off the log's.

        Raises:
            LogError: nothing was appended.
        """
        before_us = _now_us()
        offset = await self.log.append(topic, [message], partition)
        after_us = _now_us()
        async for records in self.log.read(topic, offset, partition):
            self.gate.skew_us = skew(before_us, records[0].log_us, after_us)
            break


def _now_us() -> int:
    return time.time_ns() // 1000
