"""Plays a scenario of the corpus in closed loop, and says which of its claims hold.

The engine is the real one, on a live log's terms: it ticks once a second and when due, actions
are answered by scripted actuators, and a seed makes the way to the log lose, double, delay and
reorder. Deterministic for a scenario and a seed. Called by ``firstfault corpus`` and the tests.
"""

import heapq
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

from correlator.claims import AS_BEFORE, Told, Verdict, method_of, verdicts
from correlator.engine import Engine, Stamped
from correlator.results import FENCE_PROOFS
from correlator.rules import RuleSet
from correlator.scenarios import DOMAIN, Entry, Loaded, matches
from correlator.state import EngineState, restore
from correlator.timeline import START_US
from schemas.base import from_microseconds
from schemas.corpus import Answer, ResultState, Scenario
from schemas.inputs import Command, Input, OwnerClaim, Result, Tick
from schemas.outputs import Action

TICK_US = 1_000_000
"""A live log has at least one tick a second."""
AFTER_LAST_US = 30_000_000
"""A scenario that does not say so ends this long after its last line."""
ABOUT_PLANS = ("approve", "reject", "retry")
"""Commands that name an incident: a line names its cause instead, the id is a hash."""
STEPS_MAX = 200_000
"""Inputs of one scenario; more means that a deadline does not move."""


@dataclass(frozen=True, slots=True)
class Played:
    """A scenario under one seed: its story and the verdict on each claim."""

    scenario: Scenario
    seed: int
    story: tuple[Told, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def failed(self) -> bool:
        """Claim that something that must hold does not."""
        return any(one.failure and one.pending is None for one in self.verdicts)

    @property
    def pending(self) -> list[Verdict]:
        """Return the claims that wait for what is missing."""
        return [one for one in self.verdicts if one.pending is not None]

    @property
    def overtaken(self) -> list[Verdict]:
        """Return the claims that are called pending and hold; asked only without noise."""
        return [one for one in self.pending if not one.failure and self.seed == 0]


def _arrivals(loaded: Loaded, seed: int) -> Iterator[tuple[int, Entry, str]]:
    """Yield (when it arrives, entry, what noise did); seed 0 but dates it.

    What one source says of one signal of one entity stays in order: it is one stream.
    """
    noise = loaded.scenario.noise
    entries = [
        replace(entry, inputs=tuple(_skewed(one, noise.skew) for one in entry.inputs))
        for entry in loaded.entries
    ]
    if seed == 0:
        yield from ((entry.arrives_us, entry, "") for entry in entries)
        return
    chance = random.Random(f"{loaded.scenario.id}/{seed}")  # noqa: S311 - noise, no secret
    inputs = [entry for entry in entries if entry.inputs]
    last = chance.choice(inputs) if inputs and noise.late else None
    sources = sorted({_source(one) for entry in inputs for one in entry.inputs} - {""})
    off_s = chance.uniform(-noise.clock, noise.clock)
    wrong = {chance.choice(sources): off_s} if sources else {}
    latest: dict[tuple[str, ...], int] = {}
    for entry in sorted(entries, key=lambda one: one.arrives_us):
        if not entry.inputs:
            yield entry.arrives_us, entry, ""
            continue
        extra_us = chance.randint(0, round(noise.reorder * 1e6))
        extra_us += round(noise.late * 1e6) if entry is last else 0
        lost = chance.random() < noise.drop and entry.may_drop
        twice_us = chance.randint(1, TICK_US) if chance.random() < noise.dup else 0
        stream = (entry.text.removeprefix("clear "),)
        arrives_us = max(entry.arrives_us + extra_us, latest.get(stream, 0))
        if lost:
            yield arrives_us, replace(entry, inputs=()), "lost"
            continue
        latest[stream] = arrives_us
        dated = replace(entry, inputs=tuple(_skewed(one, wrong) for one in entry.inputs))
        yield arrives_us, dated, f"{extra_us / 1e6:.3f} s late" if extra_us else ""
        if twice_us:
            yield arrives_us + twice_us, dated, "again"


def _source(given: Input) -> str:
    return getattr(given, "source", None) or getattr(given, "collector", None) or ""


def _skewed(given: Input, skew: dict[str, float]) -> Input:
    """Return an input as a source with such a clock dates it."""
    source = _source(given)
    at = getattr(given, "at", None)
    for pattern, offset_s in skew.items():
        if source and at and fnmatchcase(source, pattern):
            return given.model_copy(update={"at": at + timedelta(seconds=offset_s)})
    return given


# ---- playing -------------------------------------------------------------------------------


Arrival = tuple[int, int, Entry | Result, str, Action | None]
"""(microseconds since 0 s, order, what arrives, what noise did, the action answered)."""


@dataclass(slots=True)
class _Run:
    """One scenario being played under one seed."""

    loaded: Loaded
    engine: Engine
    arrivals: list[Arrival]
    chance: random.Random
    end_us: int
    dup: float
    story: list[Told] = field(default_factory=list)
    answered: dict[int, int] = field(default_factory=dict)
    """index of an entry of `actuators` → how often it was taken"""
    done: dict[str, tuple[int, Result]] = field(default_factory=dict)
    """idempotency key → when it is answered, and how"""
    epoch: int = 0
    """The newest that the actuators have read: a former owner's word is refused (I7)."""
    superseded: dict[int, int | None] = field(default_factory=dict)
    """line of a claim → the epoch it supersedes, however often it is told"""
    now_us: int = 0
    tick_us: int = 0
    """When the next tick of the second is due."""
    steps: int = 0

    def play(self) -> None:
        while self.steps < STEPS_MAX:
            arrives_us = self.arrivals[0][0] if self.arrivals else self.end_us + 1
            tick_us = min(self.tick_us, self.due_us())
            if min(arrives_us, tick_us) > self.end_us:
                return
            if arrives_us <= tick_us:
                self.arrive(heapq.heappop(self.arrivals))
            else:
                self.now_us = max(self.now_us, tick_us)
                self.step(Tick())
                if self.tick_us <= self.now_us:
                    self.tick_us = self.now_us // TICK_US * TICK_US + TICK_US
        msg = f"{self.loaded.scenario.id}: time does not move after {STEPS_MAX} inputs"
        raise RuntimeError(msg)

    def due_us(self) -> int:
        """Return when the engine's next deadline falls due, as the log's stamps will say."""
        due_us = self.engine.next_deadline_us()
        if due_us is None:
            return self.end_us + 1
        return self.now_us + max(0, due_us - self.engine.state.live_us)

    def arrive(self, arrival: Arrival) -> None:
        at_us, _, what, note, sent = arrival
        self.now_us = max(self.now_us, at_us)
        self.story.append(Told(self.now_us, what, note, sent))
        if isinstance(what, Entry):
            self.take(what)
        else:
            self.step(what)

    def take(self, entry: Entry) -> None:
        if entry.restart:
            snapshot = json.loads(self.engine.state.text())
            rules = self.engine.rules
            self.engine = Engine(restore(snapshot, rules.schema), rules)
        if entry.gap_us:
            self.stand_still(self.now_us + entry.gap_us)
        for given in entry.inputs:
            self.step(self.told_now(entry, given))
        if entry.late:
            self.publish_late(entry)

    def told_now(self, entry: Entry, given: Input) -> Input:
        """Return an input with what only the state tells: the present epoch, an incident's id."""
        state = self.engine.state
        if isinstance(given, OwnerClaim):
            epoch = self.superseded.setdefault(entry.number, state.epoch)
            return given.model_copy(update={"supersedes": epoch})
        if isinstance(given, Command) and given.command in ABOUT_PLANS:
            named = [i.incident_id for i in state.incidents.values() if i.fault[1] == given.target]
            return given.model_copy(update={"target": min(named, default=given.target)})
        return given

    def publish_late(self, entry: Entry) -> None:
        """Let the actuators read what a former owner had decided and had not published."""
        sent = [told.what for told in self.story if isinstance(told.what, Action)]
        for action in sent:
            is_meant = action.verb == entry.late and action.target in entry.entities
            if is_meant and action.epoch < self.epoch:
                self.act(action)

    def stand_still(self, until_us: int) -> None:
        """Nothing is read, no tick either, before a time; what came in between comes at once."""
        waiting = enumerate(sorted(self.arrivals, key=lambda one: one[:2]))
        self.arrivals = [(max(one[0], until_us), order, *one[2:]) for order, one in waiting]
        self.tick_us, self.now_us = until_us, until_us

    def step(self, given: Input) -> None:
        self.steps += 1
        outputs = self.engine.step(Stamped(self.steps, 0, START_US + self.now_us, given))
        self.epoch = self.engine.state.epoch or 0
        for output in outputs:
            self.story.append(Told(self.now_us, output))
            if isinstance(output, Action):
                self.act(output)

    def act(self, action: Action) -> None:
        """Let the scripted actuators answer an action; a dry run they leave alone.

        A key that was answered before is answered alike: two incidents may want one effect.
        """
        if action.epoch < self.epoch:
            refused = self.result(action, "REJECTED", {"reason": "stale_epoch"})
            self.send(self.now_us, refused, "", action)
            return
        done = self.done.get(action.idempotency_key)
        if done is not None:
            same = done[1].model_copy(update={"action_id": action.action_id})
            self.send(max(self.now_us, done[0]), same, AS_BEFORE, action)
            return
        answer = None if action.mode == "dry_run" else self.answer_to(action)
        if answer is None or answer.reply == "silent":
            return
        at_us = self.now_us + round(answer.after * 1e6)
        proof = _proof(answer, action, from_microseconds(START_US + at_us))
        result = self.result(action, answer.reply, proof)
        self.done[action.idempotency_key] = at_us, result
        self.send(at_us, result, "", action)
        if self.chance.random() < self.dup:
            self.send(at_us + self.chance.randint(1, TICK_US), result, "again", action)

    def result(self, action: Action, state: ResultState, proof: dict[str, Any]) -> Result:
        return Result(
            action_id=action.action_id,
            idempotency_key=action.idempotency_key,
            epoch_seen=self.epoch,
            actuator="actuator:corpus",
            state=state,
            proof=proof,
        )

    def answer_to(self, action: Action) -> Answer | None:
        if action.verb == "revoke":
            return None
        for index, answer in enumerate(self.loaded.scenario.actuators):
            fits = answer.verb == action.verb and matches(answer.target, action.target)
            left = answer.times is None or self.answered.get(index, 0) < answer.times
            if fits and left and answer.method in (None, method_of(action)):
                self.answered[index] = self.answered.get(index, 0) + 1
                return answer
        return Answer(verb=action.verb)

    def send(self, at_us: int, result: Result, note: str, action: Action) -> None:
        order = len(self.story) + STEPS_MAX
        heapq.heappush(self.arrivals, (at_us, order, result, note, action))


def _proof(answer: Answer, action: Action, observed_at: str) -> dict[str, Any]:
    if answer.reply != "CONFIRMED":
        return dict(answer.proof)
    proof: dict[str, Any] = {"observed_at": observed_at}
    if action.verb == "fence":
        method = action.method or "bmc_off"
        proof |= {"method": method, "observed_state": min(FENCE_PROOFS[method])}
    return proof | answer.proof


def _site_rules(rules: RuleSet, scenario: Scenario) -> RuleSet:
    """Return the rules with what the site of a scenario says itself."""
    knobs = {} if scenario.engine is None else scenario.engine.model_dump(exclude_unset=True)
    return replace(
        rules,
        settings=(*rules.settings, *scenario.settings),
        policies=(*scenario.policies, *rules.policies),
        knobs=rules.knobs.model_copy(update=knobs),
    )


def play(loaded: Loaded, rules: RuleSet, seed: int = 0) -> Played:
    """Return what happens in a scenario under a seed, 0 being without noise, and the verdicts."""
    scenario = loaded.scenario
    rules = _site_rules(rules, scenario)
    arrivals = sorted(
        (
            (at_us, order, entry, note, None)
            for order, (at_us, entry, note) in enumerate(_arrivals(loaded, seed))
        ),
        key=lambda one: one[:2],
    )
    last_us = max((at_us for at_us, *_ in arrivals), default=0)
    end_us = last_us + AFTER_LAST_US if scenario.until is None else round(scenario.until * 1e6)
    state = EngineState(
        DOMAIN.partition(":")[2],
        loaded.topology.copy(),
        rules.hash,
        ticks="recorded",
        mode=scenario.mode,
    )
    run = _Run(
        loaded,
        Engine(state, rules),
        list(arrivals),
        random.Random(f"{scenario.id}/{seed}/answers"),  # noqa: S311 - noise, no secret
        end_us,
        scenario.noise.dup if seed else 0.0,
    )
    run.play()
    story = tuple(run.story)
    slack_us = round((scenario.noise.reorder + scenario.noise.late) * 1e6) if seed else 0
    said = tuple(verdicts(scenario, story, slack_us, loaded.topology))
    return Played(scenario, seed, story, said)
