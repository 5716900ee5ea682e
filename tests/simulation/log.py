"""The log of the domain, the workers that fold it, and what dies and wakes among them.

The holder folds, ticks and publishes. When it dies, a successor restores a snapshot, folds what
came since without a word, claims the log, and speaks from its own claim on. What the dead one had
not yet published may come out later still, under its old epoch.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

from correlator.engine import Engine, Stamped
from correlator.replay import engine_for
from correlator.rules import RuleSet, load_pack
from correlator.state import EngineState, restore
from correlator.topology import from_document
from schemas.inputs import Input, OwnerClaim, Tick
from schemas.outputs import Action, Output
from tests.simulation.kernel import Kernel
from tests.simulation.site import Site

DOMAIN = "pod-1"
PACK = Path(__file__).resolve().parents[2] / "rules" / "nfvi"
NEVER = 1 << 62
TICK_SOONEST_US = 1_000
"""Ticks are at least so far apart."""


@cache
def rules() -> RuleSet:
    """Return the shipped pack, loaded once in each process."""
    return load_pack(PACK)


def new_engine(site: Site) -> Engine:
    """Return an engine that knows the site and nothing else."""
    topology = from_document(site.document(), rules().schema)
    return engine_for(topology, rules(), DOMAIN, "recorded")


class Log:
    """Everything that was appended, and the worker that holds it."""

    def __init__(self, kernel: Kernel, site: Site, skips: frozenset[str] = frozenset()) -> None:
        self.kernel = kernel
        self.skips = skips
        self.records: list[Stamped] = []
        self.engine: Engine | None = new_engine(site)
        self.on_append: Callable[[Stamped], None] = lambda record: None
        self.on_output: Callable[[Output], None] = lambda output: None
        self.on_drift: Callable[[str], None] = lambda text: None
        self.epoch = -1
        """Offset of the claim of the present holder."""
        self.latest_claim_us = 0
        self.doom: tuple[float, Callable[[], None]] | None = None
        """(share that still gets out, what ends the holder) when it has next decided to act."""
        self.unsaid: list[Action] = []
        """What it then had decided on."""
        self.is_out = False
        """The broker takes nothing; producers keep what they have."""
        self.checked_from = NEVER
        """Offset from which on what is said is kept, to be compared with a second reading."""
        self.said: dict[int, list[Output]] = {}
        self._cut = 0, ""
        self._held_back: list[tuple[Input, bool]] = []
        self._claims = 0
        self._tick_due_us: int | None = None

    # ---- appending ---------------------------------------------------------------------

    def append(self, given: Input, *, spooled: bool = False) -> None:
        """Stamp an input; whoever holds the log folds it at once."""
        if self.is_out:
            if not isinstance(given, Tick):
                self._held_back.append((given, spooled))
            return
        record = Stamped(len(self.records), 0, self.kernel.now_us, given, spooled)
        self.records.append(record)
        self.on_append(record)
        if self.engine is None:
            return
        outputs = self.engine.step(record)
        if isinstance(given, Tick):
            self._check_owners(self.engine.state)
        if record.offset >= self.checked_from:
            self.said[record.offset] = outputs
        if self.doom is not None and any(isinstance(output, Action) for output in outputs):
            self._say_in_part(outputs, *self.doom)
            return
        for output in outputs:
            self.on_output(output)
        self._tick_when_due()

    def _check_owners(self, state: EngineState) -> None:
        """Every symptom belongs to an incident that is open, or to none."""
        for (symptom, entity), one in state.sightings.items():
            if one.incident is not None and one.incident not in state.incidents:
                self.on_drift(f"{symptom} of {entity} belongs to an incident that is over")

    def _say_in_part(self, outputs: list[Output], share: float, end: Callable[[], None]) -> None:
        """Let the holder die between two words."""
        out = int(share * len(outputs))
        for output in outputs[:out]:
            self.on_output(output)
        self.unsaid = [output for output in outputs[out:] if isinstance(output, Action)]
        end()

    def return_to_service(self) -> None:
        """Take all that producers have kept, now: an outage ends in a burst."""
        self.is_out = False
        held_back, self._held_back = self._held_back, []
        for given, spooled in held_back:
            self.append(given, spooled=spooled)

    def claim(self) -> None:
        """Let the holder take the log for itself."""
        assert self.engine is not None
        self._claims += 1
        supersedes = self.epoch if self.epoch >= 0 else None
        self.epoch = len(self.records)
        self.latest_claim_us = self.kernel.now_us
        self.append(OwnerClaim(owner=f"worker-{self._claims}", supersedes=supersedes))

    def tick(self) -> None:
        """Let the holder move time; nobody else may."""
        if self.engine is not None:
            self.append(Tick(owner=f"worker-{self._claims}", epoch=self.epoch))

    def _tick_when_due(self) -> None:
        assert self.engine is not None
        due_us = self.engine.next_deadline_us()
        if due_us is None:
            return
        wait_us = max(TICK_SOONEST_US, due_us - self.engine.state.live_us)
        at_us = self.kernel.now_us + wait_us
        pending = self._tick_due_us
        if pending is not None and self.kernel.now_us < pending <= at_us:
            return
        self._tick_due_us = at_us
        self.kernel.at_us(at_us, lambda: self._tick_at(at_us))

    def _tick_at(self, at_us: int) -> None:
        if self._tick_due_us == at_us:
            self._tick_due_us = None
            self.tick()

    # ---- dying and taking over ---------------------------------------------------------

    def snapshot(self) -> tuple[int, str]:
        """Return how far the holder is, and all it knows."""
        assert self.engine is not None
        return len(self.records), self.engine.state.text()

    def die(self) -> Engine:
        """End the holder; nobody ticks until another takes over."""
        assert self.engine is not None
        dead, self.engine, self._tick_due_us = self.engine, None, None
        self.doom = None
        return dead

    def take_over(self, snapshot: tuple[int, str], dead: Engine) -> None:
        """Let a successor restore, catch up in silence, and claim."""
        start, text = snapshot
        engine = self._restored(text)
        for record in self.records[start:]:
            engine.step(record)
            if record.offset == dead.state.offset:
                self._compare(engine, dead)
        self.engine = engine
        self.claim()

    def _restored(self, text: str) -> Engine:
        state = restore(json.loads(text), rules().schema)
        if "memory" in self.skips:
            state.heard_us.clear()
        return Engine(state, rules())

    def _compare(self, engine: Engine, other: Engine) -> None:
        if engine.state.text() != other.state.text():
            self.on_drift("a restored snapshot and the log since did not give the same state")

    def check_from_now(self) -> None:
        """Keep what the holder knows now, and all that is said from now on."""
        if self.engine is not None:
            self._cut = self.snapshot()
            self.checked_from = self._cut[0]

    def read_again(self) -> None:
        """Fold the log since then a second time; everything must be said alike (I11)."""
        if self.engine is None or self.checked_from == NEVER:
            return
        start, text = self._cut
        engine = self._restored(text)
        for record in self.records[start:]:
            outputs = engine.step(record)
            if outputs != self.said.get(record.offset, outputs):
                self.on_drift(f"offset {record.offset} was answered otherwise when read again")
                return
        self._compare(engine, self.engine)

    def late_words(self, dead: Engine, until: int) -> list[Action]:
        """Return what a worker still does that wakes before it reads that it was replaced."""
        behind = self.records[dead.state.offset + 1 : until]
        outputs = [output for record in behind for output in dead.step(record)]
        unsaid, self.unsaid = self.unsaid, []
        return [*unsaid, *(output for output in outputs if isinstance(output, Action))]
