"""One run: a site, a few faults, the engine, and what came of it; everything follows the seed."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from correlator.engine import Stamped
from schemas.inputs import Command, Event, OwnerClaim, Pulse, Result, Tick
from schemas.outputs import Action, Decision, Incident, Output
from tests.simulation import faults
from tests.simulation.actuators import Actuator, Effect
from tests.simulation.faults import Stage
from tests.simulation.kernel import SECOND_US, START_US, Kernel
from tests.simulation.log import Log
from tests.simulation.observers import Network, Observers
from tests.simulation.operators import Operators
from tests.simulation.oracles import Oracles, Violation
from tests.simulation.physics import World
from tests.simulation.site import draw_site

FIRST_FAULT_S, LAST_FAULT_S = 12.0, 130.0
MENDED_S = 190.0
"""By then everything is mended; operators then bring up what is down."""
RUN_S = 450.0
CLEAN_UP_S = 10.0
APPROVE_SHARE = 0.15
"""Of the sites let nothing destructive happen without a person's word."""
READ_AGAIN_SHARE = 0.25
"""Of the runs are folded a second time from a random moment on."""
TRACE_LINES = 30
KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to."""

    seed: int
    simulated_s: float
    steps: int
    records: int
    faults: tuple[str, ...]
    actions: dict[str, int]
    effects: int
    refusals: dict[str, int]
    violations: tuple[Violation, ...]
    trace: tuple[str, ...]
    """The lines that led to the first violation; empty where there is none."""


class Run:
    """A world with the engine in it."""

    def __init__(
        self, seed: int, skips: frozenset[str] = frozenset(), more: tuple[str, ...] = ()
    ) -> None:
        rng = self.rng = Random(seed)
        self.seed = seed
        self._more = more
        self.kernel = Kernel()
        site = draw_site(rng)
        self.world = World(site, self.kernel, Random(rng.random()))
        self.log = Log(self.kernel, site, skips)
        self.network = Network(self.kernel, self.log, Random(rng.random()))
        self.observers = Observers(self.world, self.network, Random(rng.random()))
        self.actuator = Actuator(self.world, self.log, Random(rng.random()), skips)
        self.oracles = Oracles(self.world, self.log)
        self.struck: list[str] = []
        self._kept: deque[tuple[int, object]] = deque(maxlen=KEPT)
        self._mends: list[Callable[[], None]] = []
        self._connect()

    def _connect(self) -> None:
        self.world.on_settled = self.observers.look
        self.world.on_double_write = self.oracles.on_double_write
        self.log.on_append = self._appended
        self.log.on_output = self._said
        self.log.on_drift = self.oracles.on_drift
        self.actuator.on_effect = self._done
        self.actuator.on_done = self.oracles.on_done

    # ---- wiring ------------------------------------------------------------------------

    def _keep(self, what: object) -> None:
        self._kept.append((self.kernel.now_us, what))

    def _appended(self, record: Stamped) -> None:
        self.oracles.on_record(record)
        given = record.input
        if isinstance(given, OwnerClaim):
            epoch = record.offset
            self.kernel.after(0.1, lambda: self.actuator.read_claim(epoch))
        if not isinstance(given, Tick | Pulse):
            self._keep(given)

    def _said(self, output: Output) -> None:
        self._keep(output)
        self.oracles.on_said(output)
        if isinstance(output, Action):
            self._deliver(output)
            if output.verb == "page":
                self.operators.paged(output)

    def _deliver(self, action: Action) -> None:
        """Bring an action to the actuator, at least once."""
        for _ in range(2 if self.rng.random() < 0.1 else 1):
            self.kernel.after(self.rng.uniform(0.005, 0.2), lambda: self.actuator.receive(action))

    def _done(self, effect: Effect) -> None:
        self._keep(effect)
        self.oracles.on_effect(effect)

    def _publish_late(self, actions: Sequence[Action]) -> None:
        for action in actions:
            self._keep(action)
            self._deliver(action)

    # ---- the run -----------------------------------------------------------------------

    def go(self) -> Outcome:
        """Let the run happen."""
        self.log.claim()
        stage = Stage(
            self.rng,
            self.kernel,
            self.world,
            self.log,
            self.network,
            self.observers,
            self.actuator,
            self._publish_late,
        )
        mode = "approve" if self.rng.random() < APPROVE_SHARE else "enforce"
        stage.command("set_mode", mode)
        self.operators = Operators(stage)
        self.observers.start()
        self.kernel.every(1.0, self.log.tick)
        self.kernel.every(1.0, self.world.write)
        self._draw_faults(stage)
        if self.rng.random() < READ_AGAIN_SHARE:
            self.kernel.at(self.rng.uniform(0.0, RUN_S), self.log.check_from_now)
        self.kernel.at(MENDED_S, self._mend_all)
        self.kernel.run(RUN_S, lambda: None)
        assert self.log.engine is not None
        self.log.read_again()
        self.oracles.at_end(self.log.engine)
        return self._outcome()

    def _draw_faults(self, stage: Stage) -> None:
        physical = self._draw(faults.PHYSICAL, self.rng.choice((3, 3, 4, 5)))
        others = self._draw(faults.OTHERS, self.rng.choice((0, 1, 2, 3, 4)))
        start_s = self.rng.uniform(FIRST_FAULT_S, LAST_FAULT_S)
        for fault in [*physical, *others, *(faults.BY_NAME[name] for name in self._more)]:
            # Half of what goes wrong goes wrong together.
            near_s = start_s + self.rng.uniform(-10.0, 20.0)
            far_s = self.rng.uniform(FIRST_FAULT_S, LAST_FAULT_S)
            at_s = near_s if self.rng.random() < 0.5 else far_s
            lasts_s = self.rng.uniform(5.0, 55.0)
            self.kernel.at(
                max(FIRST_FAULT_S, at_s),
                lambda fault=fault, lasts_s=lasts_s: self._strike(stage, fault, lasts_s),  # type: ignore[misc]
            )

    def _draw(
        self, menu: dict[Callable[[Stage], Callable[[], None]], int], count: int
    ) -> list[Callable[[Stage], Callable[[], None]]]:
        return self.rng.choices(list(menu), list(menu.values()), k=count)

    def _strike(
        self, stage: Stage, fault: Callable[[Stage], Callable[[], None]], lasts_s: float
    ) -> None:
        self.struck.append(fault.__name__)
        self._keep(f"fault {fault.__name__}")
        mend = fault(stage)
        self._mends.append(mend)
        self.world.settle()

        def mended() -> None:
            self._keep(f"mended {fault.__name__}")
            mend()
            self.world.settle()

        self.kernel.after(lasts_s, mended)

    def _mend_all(self) -> None:
        for mend in self._mends:
            mend()
        self.actuator.mood = ""
        self.world.settle()
        self._rounds()
        self.kernel.every(CLEAN_UP_S, self._rounds)

    def _rounds(self) -> None:
        """Operators bring up what is down, and leave alone what a task has."""
        for host in self.world.hosts.values():
            if f"host:{host.name}" in self.actuator.running:
                continue
            self.world.release(host)
        for vm, place in self.world.place.items():
            idle = vm not in self.world.stopped and f"vm:{vm}" not in self.actuator.running
            if idle and self.world.hosts[place].os == "up":
                self._bring_up(vm, place)
        self.world.settle()

    def _bring_up(self, vm: str, place: str) -> None:
        for copy in self.world.copies:
            if copy.vm == vm and copy.state == "crashed":
                copy.state = "dead"
        if not any(self.world.copies_of(vm)):
            self.world.new_copy(vm, place, "starting")

    # ---- afterwards --------------------------------------------------------------------

    def _outcome(self) -> Outcome:
        violations = tuple(self.oracles.violations)
        return Outcome(
            seed=self.seed,
            simulated_s=self.kernel.now_s,
            steps=self.kernel.steps,
            records=len(self.log.records),
            faults=tuple(self.struck),
            actions=dict(sorted(self.oracles.actions.items())),
            effects=sum(self.oracles.effects.values()),
            refusals=dict(sorted(self.actuator.refusals.items())),
            violations=violations,
            trace=tuple(self._trace(violations[0])) if violations else (),
        )

    def _trace(self, violation: Violation) -> list[str]:
        """Return the last lines before a violation that speak of what it is about."""
        until_us = START_US + round(violation.at_s * SECOND_US) + SECOND_US // 1000
        lines = [(at_us, describe(what)) for at_us, what in self._kept if at_us <= until_us]
        about = violation.about.partition(":")[2] or violation.about
        names = {about, self.world.place.get(about, about)}
        relevant = [
            f"{(at_us - START_US) / SECOND_US:8.3f} s  {line}"
            for at_us, line in lines
            if line.startswith(("fault", "mended", "command", "claim")) or _speaks_of(line, names)
        ]
        return relevant[-TRACE_LINES:]


def _speaks_of(line: str, names: set[str]) -> bool:
    words = line.replace(":", " ").replace("/", " ").replace(",", " ").split()
    return not names.isdisjoint(words)


def describe(what: object) -> str:
    """Return an input, output or effect as one line."""
    match what:
        case Event() | Command() | OwnerClaim() | Result():
            return _input(what)
        case Action():
            key, verb = what.idempotency_key[:8], what.verb
            return f"  ACTION {verb} {what.target} {what.method} {key} epoch {what.epoch}"
        case Decision():
            return f"  {what.verdict} {what.entity}: {what.reason}: {what.text}"
        case Incident():
            best = what.causes[0]
            return f"  incident {what.state} {best.signature} {best.entity} {what.confidence}"
        case Effect():
            return f"  EFFECT {what.what} {what.action.target} {what.action.idempotency_key[:8]}"
        case _:
            return str(what)


def _input(given: Event | Command | OwnerClaim | Result) -> str:
    match given:
        case Event():
            return f"{given.state} {given.signal} {given.entity} by {given.source}"
        case Command():
            return f"command {given.command} {given.target}"
        case OwnerClaim():
            return f"claim by {given.owner}, supersedes {given.supersedes}"
        case Result():
            return f"result {given.state} {given.idempotency_key[:8]} {given.proof}"


def run(seed: int, skips: frozenset[str] = frozenset(), more: tuple[str, ...] = ()) -> Outcome:
    """Return what comes of a seed; `skips` are duties left undone, `more` faults by name."""
    try:
        return Run(seed, skips, more).go()
    except Exception as error:
        error.add_note(f"seed {seed}")
        raise
