"""Runs the tests of a rule pack: time lines through the real engine, and what must follow.

Every case is run as written, then under each variant of its `hold_under`. Deterministic: orders
come from seeds made of the case's name. Called by ``firstfault rules test`` and the test suite.
"""

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from correlator.engine import Engine, Stamped
from correlator.importers import TopologyError, load_topology, written_inline
from correlator.plans import TELLING
from correlator.replay import fold
from correlator.results import FENCE_PROOFS
from correlator.rules import RuleSet, load_pack
from correlator.rules.ruleset import LocatedTest, Location
from correlator.state import EngineState, restore
from correlator.timeline import START_US, Line, parse_timeline
from correlator.topology import Topology
from schemas.base import MICROSECONDS_PER_SECOND
from schemas.inputs import Result, Tick
from schemas.outputs import Action, Decision, Incident, Output
from schemas.rules import Case, Expectation, Late, Shuffle, Variant

EDGE_WORDS = 3
"""Words of an edge written as text: dependant, relation, dependency."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What came of one case: no failure where everything held."""

    name: str
    location: Location
    runs: int
    """How often the time line was played: as written, and once per variant."""
    failures: tuple[str, ...] = ()
    """Each a line ``file:line:column: variant: expected …; there was …``."""


@dataclass(slots=True)
class Played:
    """What the engine said of one time line, in order."""

    said: list[tuple[int, Output]] = field(default_factory=list)
    """(microseconds since 0 s, output)"""
    answered: dict[str, int] = field(default_factory=dict)
    """``VERB.outcome`` → how much had been said when it first arrived"""
    unsent: list[tuple[Line, str]] = field(default_factory=list)
    """answers to actions that had not left, and the entity"""

    def incidents(self, by_us: int | None = None) -> list[Incident]:
        """Return each incident as it stood at a time; without one, everything said of any."""
        told = [(at, o) for at, o in self.said if isinstance(o, Incident)]
        if by_us is None:
            return [incident for _, incident in told]
        return list({o.incident_id: o for at, o in told if at <= by_us}.values())

    def actions(self, by_us: int | None = None) -> list[tuple[int, Action]]:
        """Return (place in what was said, action), those taken back and their revocations too."""
        return [
            (place, said)
            for place, (at_us, said) in enumerate(self.said)
            if isinstance(said, Action) and (by_us is None or at_us <= by_us)
        ]

    def final_roots(self) -> set[str]:
        """Return the causes named last, without incidents that became part of another."""
        merged = {
            (at, o.entity)
            for at, o in self.said
            if isinstance(o, Decision) and o.reason == "merged"
        }
        last: dict[str, str] = {}
        for at_us, said in self.said:
            if isinstance(said, Incident):
                if said.state != "cleared":
                    last[said.incident_id] = said.causes[0].entity
                elif (at_us, said.causes[0].entity) in merged:
                    last.pop(said.incident_id, None)
        return set(last.values())

    def effects(self) -> set[tuple[str, str]]:
        """Return (verb, target) of everything that was to be done.

        Telling is left out: who hears of what first may depend on what came first; so is
        what only takes back.
        """
        verbs_left_out = {*TELLING, "revoke", "unquarantine"}
        return {(a.verb, a.target) for _, a in self.actions() if a.verb not in verbs_left_out}


class RestartedEngine(Engine):
    """An engine that is stopped and restored from its snapshot after every input."""

    def step(self, record: Stamped) -> list[Output]:
        """Fold one input, then go on as a successor would that has only the snapshot."""
        said = super().step(record)
        snapshot = json.loads(self.state.text())
        super().__init__(restore(snapshot, self.rules.schema), self.rules)
        return said


def run_tests(folder: Path) -> list[CaseResult]:
    """Return the result of every case of a pack, in the order of files and lines.

    Raises:
        RuleFaults: where the pack cannot be loaded.
    """
    rules = load_pack(folder)
    results = []
    for located in rules.tests:
        try:
            topology = _topology(located, rules, folder.resolve().parent)
        except (TopologyError, ValueError) as error:
            where = located.locations[""]
            results.append(CaseResult("topology", where, 0, (f"{where}: {error}",)))
            continue
        for index in range(len(located.test.cases)):
            results.append(_CaseRun(rules, topology, located, index).result())
    return results


def _topology(located: LocatedTest, rules: RuleSet, above: Path) -> Topology:
    """Return the graph of a test: short form, a file beside the test, or nodes and edges."""
    written: dict[str, Any] = dict(located.test.topology)
    if isinstance(written.get("file"), str):
        beside = (above / located.locations[""].file).parent
        return load_topology(beside / written["file"], rules.schema)[0]
    if isinstance(written.get("edges"), str):
        written["edges"] = [_edge(line) for line in written["edges"].splitlines() if line.strip()]
    return written_inline(written, rules.schema)


def _edge(line: str) -> dict[str, str]:
    words = line.split()
    if len(words) != EDGE_WORDS:
        msg = f"{line.strip()!r} is no edge: write DEPENDANT RELATION DEPENDENCY"
        raise ValueError(msg)
    return {"from": words[0], "relation": words[1], "to": words[2]}


@dataclass(slots=True)
class _CaseRun:
    """One case being run."""

    rules: RuleSet
    topology: Topology
    located: LocatedTest
    index: int
    failures: list[str] = field(default_factory=list)
    runs: int = 0

    @property
    def case(self) -> Case:
        return self.located.test.cases[self.index]

    def where(self, part: str = "") -> Location:
        return self.located.locations[f"cases.{self.index}{part}"]

    def result(self) -> CaseResult:
        lines, faults = parse_timeline(self.case.events)
        for number, text in faults:
            self.fail(self.line_location(number), "", text)
        if not faults:
            self.run(lines)
        return CaseResult(self.case.name, self.where(), self.runs, tuple(self.failures))

    def line_location(self, number: int) -> Location:
        """Return where a line of the time line stands: below the `|` that begins the block."""
        block = self.where(".events")
        return Location(block.file, block.line + 1 + number, 1)

    def fail(self, where: Location, variant: str, text: str) -> None:
        self.failures.append(f"{where}: {variant}: {text}" if variant else f"{where}: {text}")

    def run(self, lines: list[Line]) -> None:
        written = self.play(lines)
        for line, entity in written.unsent:
            text = f"{line.signal}: no such action on {entity} had left by then"
            self.fail(self.line_location(line.number), "", text)
        self.check_all(written, "")
        for variant in self.case.hold_under:
            for name, changed in variants(lines, variant, self.case.name, self.rules):
                restarts = variant == "restart_engine_at_every_event"
                played = self.play(changed, restarts=restarts)
                if restarts or variant == "duplicate_all":
                    self.check_all(played, name)
                else:
                    self.check_never(played, name)
                self.compare(written, played, name, less=variant == "drop_any_one")

    def compare(self, written: Played, played: Played, name: str, *, less: bool) -> None:
        """Causes and actions must be those of the written time line, or with `less` fewer."""
        pairs = (
            ("causes", written.final_roots(), played.final_roots()),
            ("actions", written.effects(), played.effects()),
        )
        for what, before, after in pairs:
            wrong = after - before if less else after ^ before
            if wrong:
                expected = f"no {what} but {_listed(before)}" if less else _listed(before)
                text = f"expected {expected}; there was {_listed(after)}"
                self.fail(self.where(), name, text)

    def check_all(self, played: Played, variant: str) -> None:
        for index, expected in enumerate(self.case.expect):
            for text in missed(expected, played):
                self.fail(self.where(f".expect.{index}"), variant, text)
        count = len({incident.incident_id for incident in played.incidents()})
        if self.case.incidents not in (None, count):
            text = f"expected {self.case.incidents} incidents; there was {count}"
            self.fail(self.where(), variant, text)
        self.check_never(played, variant)

    def check_never(self, played: Played, variant: str) -> None:
        for index, forbidden in enumerate(self.case.never):
            text = broken(forbidden, played)
            if text:
                self.fail(self.where(f".never.{index}"), variant, text)

    def play(self, lines: Iterable[Line], *, restarts: bool = False) -> Played:
        """Return what a new engine, allowed to act, says of a time line."""
        self.runs += 1
        made = RestartedEngine if restarts else Engine
        state = EngineState("test", self.topology.copy(), self.rules.hash, mode="enforce")
        played = Played()
        end_us = None if self.case.until is None else _microseconds(self.case.until)
        for record, output in fold(made(state, self.rules), _records(lines, end_us, played)):
            at_us = record.log_us - START_US
            if end_us is not None and at_us > end_us:
                break
            played.said.append((at_us, output))
        return played


def _microseconds(seconds: float) -> int:
    return round(seconds * MICROSECONDS_PER_SECOND)


def _records(lines: Iterable[Line], end_us: int | None, played: Played) -> Iterator[Stamped]:
    """Yield the inputs of a time line in the order of arrival.

    An answer is made when it arrives, of the action that has left by then; a tick goes before
    it, so that everything due before has been said.
    """
    offset = 0
    for line in sorted(lines, key=lambda line: line.arrives_us):
        log_us = START_US + line.arrives_us
        if line.result is None:
            for event in line.events():
                yield Stamped(offset := offset + 1, 0, log_us, event)
            continue
        yield Stamped(offset := offset + 1, 0, log_us, Tick())
        for result in _answers(line, played):
            yield Stamped(offset := offset + 1, 0, log_us, result)
    if end_us is not None:
        yield Stamped(offset + 1, 0, START_US + end_us, Tick())


def _answers(line: Line, played: Played) -> Iterator[Result]:
    verb, state = line.result or ("", "")
    for entity in line.entities:
        sent = [a for _, a in played.actions() if a.verb == verb and a.target == entity]
        if not sent:
            played.unsent.append((line, entity))
            continue
        played.answered.setdefault(line.signal, len(played.said))
        yield Result(
            action_id=sent[-1].action_id,
            idempotency_key=sent[-1].idempotency_key,
            actuator="actuator:test",
            state=state,  # type: ignore[arg-type]
            proof=_proof(sent[-1]) if state == "CONFIRMED" else {},
        )


def _proof(action: Action) -> dict[str, str]:
    """Return what an actuator that has done its work observed, by the method it was told."""
    method = action.method or "bmc_off"
    return {"method": method, "observed_state": min(FENCE_PROOFS[method])}


# ---- variants ------------------------------------------------------------------------------


Changed = tuple[str, list[Line]]
"""(name of the variant, its lines)."""


def variants(lines: list[Line], variant: Variant, seed: str, rules: RuleSet) -> Iterator[Changed]:
    """Yield (name, lines) of each changed time line that a variant means."""
    if isinstance(variant, Shuffle):
        yield from _orders(lines, variant.shuffle, seed, rules.lateness_us)
    elif isinstance(variant, Late):
        yield from _late(lines, _microseconds(variant.late))
    elif variant == "drop_any_one":
        yield from _dropped(lines)
    elif variant == "duplicate_all":
        yield "everything twice", [line for line in lines for _ in range(2)]
    else:
        yield "restarted at every input", lines


def _dropped(lines: list[Line]) -> Iterator[Changed]:
    for line in lines:
        if line.result is None and not line.clears:
            name = f"without line {line.number + 1} ({line.signal})"
            yield name, [other for other in lines if other is not line]


def _orders(lines: list[Line], count: int, seed: str, lateness_us: int) -> Iterator[Changed]:
    for number in range(1, count + 1):
        chance = random.Random(f"{seed}/{number}")  # noqa: S311 - an order, no secret
        late = {line.number: chance.randrange(lateness_us) for line in lines}
        yield f"order {number}", _delayed(lines, late, lateness_us)


def _late(lines: list[Line], late_us: int) -> Iterator[Changed]:
    for line in lines:
        if line.result is None:
            name = f"line {line.number + 1} ({line.signal}) late"
            yield name, _delayed(lines, {line.number: late_us}, late_us)


def _delayed(lines: list[Line], late: dict[int, int], answers_us: int) -> list[Line]:
    """Return the lines, each later by its delay; answers wait for actions that may come later.

    What one source says of one signal stays in order: it is one stream.
    """
    last: dict[tuple[str, str], int] = {}
    delayed = []
    for line in sorted(lines, key=lambda line: line.arrives_us):
        extra_us = late.get(line.number, 0) if line.result is None else answers_us
        streams = [(line.signal, entity) for entity in line.entities]
        arrives_us = max([line.arrives_us + extra_us, *(last.get(s, 0) for s in streams)])
        last.update(dict.fromkeys(streams, arrives_us))
        delayed.append(replace(line, arrives_us=arrives_us))
    return delayed


# ---- expectations --------------------------------------------------------------------------


def missed(expected: Expectation, played: Played) -> Iterator[str]:
    """Yield what an expectation asks for and what was there instead; nothing where it is met."""
    by_us = None if expected.by is None else _microseconds(expected.by)
    if _speaks_of_incidents(expected):
        told = played.incidents(by_us)
        if not any(_is_so(expected, incident) for incident in told):
            there = sorted({_shown(incident) for incident in told})
            yield f"expected {_wish(expected)}; there was {_listed(there) or 'no incident'}"
    if expected.action is not None:
        yield from _missed_action(expected, played, by_us)


def _speaks_of_incidents(expected: Expectation) -> bool:
    claims = (expected.root, expected.signature, expected.confidence, expected.cleared)
    return any(claim is not None for claim in claims)


def _is_so(expected: Expectation, incident: Incident) -> bool:
    cause = incident.causes[0]
    least = float((expected.confidence or ">= 0").removeprefix(">="))
    return (
        (expected.root is None or fnmatchcase(cause.entity, expected.root))
        and (expected.signature is None or cause.signature == expected.signature)
        and incident.confidence >= least
        and (incident.state == "cleared") == bool(expected.cleared)
    )


def _missed_action(expected: Expectation, played: Played, by_us: int | None) -> Iterator[str]:
    done = [(n, a) for n, a in played.actions(by_us) if a.verb == expected.action]
    targets = expected.targets or ([expected.node] if expected.node else [])
    there = sorted({action.target for _, action in done})
    if not done or not set(targets) <= set(there):
        yield f"expected {_wish(expected)}; there was {_listed(there) or 'no such action'}"
    if expected.after is not None:
        since = played.answered.get(expected.after)
        early = sorted({a.target for n, a in done if since is None or n < since})
        if early:
            yield f"expected {_wish(expected)}; before it left {_listed(early)}"


def broken(forbidden: Expectation, played: Played) -> str | None:
    """Return what was said though it must never be, or None."""
    by_us = None if forbidden.by is None else _microseconds(forbidden.by)
    targets = forbidden.targets or ([forbidden.node] if forbidden.node else ["*"])
    if forbidden.action is not None:
        found = {
            action.target
            for _, action in played.actions(by_us)
            if action.verb == forbidden.action
            and any(fnmatchcase(action.target, target) for target in targets)
        }
    else:
        told = [
            said
            for at_us, said in played.said
            if isinstance(said, Incident) and (by_us is None or at_us <= by_us)
        ]
        found = {_shown(incident) for incident in told if _is_so(forbidden, incident)}
    return f"never {_wish(forbidden)}; there was {_listed(found)}" if found else None


def _wish(expected: Expectation) -> str:
    """Return an expectation as its author wrote it."""
    parts = expected.model_dump(exclude_none=True)
    if expected.by is not None:
        parts["by"] = f"{expected.by:g}s"
    return ", ".join(f"{name} {value}" for name, value in parts.items())


def _shown(incident: Incident) -> str:
    cause = incident.causes[0]
    return f"{cause.entity} ({cause.signature}, {incident.confidence:.3f}, {incident.state})"


def _listed(things: Iterable[Any]) -> str:
    shown = [" ".join(one) if isinstance(one, tuple) else str(one) for one in things]
    return ", ".join(sorted(shown))
