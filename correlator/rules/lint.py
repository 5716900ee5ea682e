"""Says what is doubtful in a rule pack although it loads; the shipped packs have no error here.

Faults that keep a pack from being loaded at all are found by `load`; `lint` tells both, so that
an author sees one list. Called by ``firstfault rules check``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

from correlator.rules.conditions import parse_structure
from correlator.rules.load import load_with_warnings
from correlator.rules.paths import Path as TypedPath
from correlator.rules.paths import Step, parse_path, path_text
from correlator.rules.ruleset import (
    ANY_SIGNAL,
    Fault,
    Location,
    RuleFaults,
    RuleSet,
    SignatureSpec,
    SymptomSpec,
)
from schemas.outputs import DESTRUCTIVE_VERBS
from schemas.rules import Policy, RuleTest

DISTANCE_MIN = 2
"""Cells in which two signatures must differ: with one, a single lost event confuses them."""
CELL_DIFFERENCE = 0.5
"""Two cells with p this far apart are told apart by seeing, or not seeing, the symptom."""
PRIOR_MAX = 0.1
"""A fault more frequent than this in one window is the normal state."""
P_MIN = 0.01
"""A symptom rarer than this says nothing of the fault."""
SPURIOUS_MAX = 0.5
"""A symptom seen by chance this often is no symptom."""
CONFIDENCE_MIN = 0.99
"""Least confidence for what can end or double a workload."""
PROOF = "fence.confirmed"
"""What an evacuation must wait for: a VM must never run twice."""

COPYING = frozenset({"evacuate_vm", "rebuild_vm"})
"""Verbs that start a second copy: the first must be proven to have ended."""
CLEAN = "cleanup_net.confirmed"
"""What a host's return must wait for: what it left in the network would answer beside it (H31)."""

Found = Iterator[Fault]


@dataclass(frozen=True)
class _Pack:
    """A loaded pack, and where its parts stand."""

    rules: RuleSet

    def at(self, key: str) -> Location:
        """Return where a document stands; key is ``kind:name``."""
        return self.rules.locations.get(key, Location(self.rules.name, 1, 1))

    def fault(self, key: str, code: str, text: str, severity: str = "error") -> Fault:
        where = self.at(key)
        return Fault(where.file, where.line, where.column, code, text, severity)

    @cached_property
    def used(self) -> set[str]:
        """Symptoms that a signature, a step or another symptom speaks of."""
        names = {n for s in self.rules.signatures for cell in s.cells for n in cell.symptoms}
        names |= {r.symptom for s in self.rules.signatures for r in s.refuted_by}
        steps = [step for p in self.rules.policies for entry in p.do for step in entry.values()]
        names |= {fact.see for step in steps if step is not None for fact in step.facts}
        return names | {s.unless_symptom for s in self.rules.symptoms.values() if s.unless_symptom}

    @cached_property
    def edges(self) -> set[tuple[str, str]]:
        """(dependant, dependency) kinds that the topology schema lets failure travel along."""
        schema = self.rules.schema
        silent = {name for name, rule in schema.relations.items() if not rule.carries}
        return {(e.from_, e.to) for e in schema.edges if e.relation not in silent}


def lint(folder: Path) -> list[Fault]:
    """Return every fault of a pack, errors and warnings, in file order; empty where it is sound.

    ==================== ======== ==============================================================
    code                 severity what it says
    ==================== ======== ==============================================================
    (of loading)         error    yaml, unknown-key, missing-key, bad-value (a number without its
                                  unit too), unknown-document, duplicate-name, unknown-symptom,
                                  unknown-signal, unknown-kind, unknown-signature,
                                  unknown-step, unknown-variable; unused-variable is a warning
    impossible-path      error    no edge of the topology schema allows a step of a path
    ambiguous-path       warning  a relation of several would do for a step
    unused-symptom       warning  no signature speaks of a symptom
    silent-symptom       error    a symptom listens to a signal that nobody emits
    no-policy            warning  nothing says what to do about a signature
    indistinguishable    warning  two signatures of a root differ in under two cells
    covered              warning  one signature shows nothing that another does not show too
    odd-number           warning  p, prior or spurious is out of its useful range
    short-window         error    `within` is shorter than the signal's period
    no-guard             error    a destructive action has neither max, stop_if nor only_if
    low-confidence       error    a destructive action below a confidence of 0.99
    no-proof             error    evacuate_vm or rebuild_vm without ``needs: fence.confirmed``, or
                                  unfence without ``needs: cleanup_net.confirmed``
    no-test              error    no test covers a signature
    unknown-rule-tested  error    a test covers a signature that is not there
    thin-test            warning  a test has no case that fires, must not, or clears
    ==================== ======== ==============================================================
    """
    try:
        rules, faults = load_with_warnings(folder)
    except RuleFaults as refused:
        return refused.faults
    pack = _Pack(rules)
    return sorted({*faults, *(fault for check in CHECKS for fault in check(pack))})


# ---- paths ---------------------------------------------------------------------------------


def _paths(pack: _Pack) -> Found:
    if not pack.edges:
        return
    for signature in pack.rules.signatures:
        key = f"signature:{signature.name}"
        paths = [cell.path for cell in signature.cells]
        paths += [refutation.path for refutation in signature.refuted_by]
        paths += [claim.path for claim in signature.where]
        for path in sorted(set(paths), key=path_text):
            yield from _walked(pack, key, {signature.root}, path)
    for policy in pack.rules.policies:
        roots = {s.root for s in pack.rules.signatures if s.name in policy.cause}
        for path in _policy_paths(policy):
            yield from _walked(pack, f"policy:{policy.name}", roots or {"*"}, path)


def _policy_paths(policy: Policy) -> Iterator[TypedPath]:
    for entry in policy.do:
        for step in entry.values():
            target = step.target.removeprefix("$root").removeprefix(".") if step else ""
            yield parse_path(target or "self")
            yield from (parse_path(fact.at) for fact in (step.facts if step else []))
    for text in policy.guard.only_if:
        yield parse_structure(text).path


def _walked(pack: _Pack, key: str, kinds: set[str], path: TypedPath) -> Found:
    """Walk kinds where a topology would be walked by nodes."""
    for step in path:
        reached = {kind for start in kinds for kind in _reached(pack, start, step)}
        if not reached:
            text = f"{path_text(path)}: no edge leads from {', '.join(sorted(kinds))} by {step}"
            yield pack.fault(key, "impossible-path", text)
            return
        several = (_relations(pack, start, step) for start in sorted(kinds))
        relations = next((found for found in several if len(found) > 1), None)
        if relations and step.relation is None and step.kind != "*":
            text = f"{path_text(path)}: {step} may be {' or '.join(sorted(relations))}"
            yield pack.fault(key, "ambiguous-path", text, "warning")
        kinds = reached


def _reached(pack: _Pack, start: str, step: Step) -> set[str]:
    pairs = {(b, a) for a, b in pack.edges} if not step.up else set(pack.edges)
    pairs |= {(b, a) for a, b in pairs} if step.either else set()
    ends = {b for a, b in pairs if start in ("*", a) or a == "*"}
    ends = {kind for end in ends for kind in (pack.rules.schema.kinds if end == "*" else (end,))}
    return ends if step.kind == "*" else ends & {step.kind}


def _relations(pack: _Pack, start: str, step: Step) -> set[str]:
    """Return the relations that may join one kind with the next, one way of walking."""
    if step.either:
        return set()
    found = set()
    for edge in pack.rules.schema.edges:
        below, above = (edge.from_, edge.to) if step.up else (edge.to, edge.from_)
        if below == start and above == step.kind:
            found.add(edge.relation)
    return found


# ---- symptoms and numbers ------------------------------------------------------------------


def _symptoms(pack: _Pack) -> Found:
    signals = pack.rules.signals
    for name, spec in pack.rules.symptoms.items():
        key = f"symptom:{name}"
        if key not in pack.rules.locations:
            continue
        if name not in pack.used:
            yield pack.fault(key, "unused-symptom", f"no signature speaks of {name}", "warning")
        heard = [*spec.signals, *([spec.absent_signal] if spec.absent_signal else [])]
        known = ANY_SIGNAL in signals or not signals
        for signal in heard:
            if not known and signal not in signals:
                yield pack.fault(key, "silent-symptom", f"nobody emits {signal}")


def _numbers(pack: _Pack) -> Found:
    for spec in pack.rules.symptoms.values():
        if spec.spurious > SPURIOUS_MAX:
            text = f"spurious {spec.spurious:g} of {spec.name} is over {SPURIOUS_MAX:g}"
            yield pack.fault(f"symptom:{spec.name}", "odd-number", text, "warning")
    for signature in pack.rules.signatures:
        key = f"signature:{signature.name}"
        if signature.prior > PRIOR_MAX:
            text = f"prior {signature.prior:g} is over {PRIOR_MAX:g}"
            yield pack.fault(key, "odd-number", text, "warning")
        for cell in signature.cells:
            leaks = [pack.rules.symptoms[name].spurious for name in cell.symptoms]
            if cell.p < P_MIN or cell.p <= min(leaks):
                text = f"p {cell.p:g} of {cell.symptoms[0]} says nothing: chance is {min(leaks):g}"
                yield pack.fault(key, "odd-number", text, "warning")


def _windows(pack: _Pack) -> Found:
    for signature in pack.rules.signatures:
        for cell in signature.cells:
            for name in cell.symptoms:
                period_s = _period_s(pack, pack.rules.symptoms[name])
                if cell.within_us < period_s * 1e6:
                    within_s = cell.within_us / 1e6
                    text = f"{name} is read each {period_s:g} s: within {within_s:g} s is too short"
                    yield pack.fault(f"signature:{signature.name}", "short-window", text)


def _period_s(pack: _Pack, spec: SymptomSpec) -> float:
    rules = [pack.rules.signals.get(signal) for signal in spec.signals]
    return max((rule.period for rule in rules if rule and rule.period), default=0.0)


# ---- signatures against each other ---------------------------------------------------------


def _pairs(pack: _Pack) -> Found:
    """Compare class-level columns: what a topology makes of them can only be closer."""
    for first, second in combinations(pack.rules.signatures, 2):
        if first.root != second.root or not _overlap(first, second):
            continue
        one, other = _column(first), _column(second)
        distance = sum(
            abs(one.get(cell, 0.0) - other.get(cell, 0.0)) >= CELL_DIFFERENCE
            for cell in one.keys() | other.keys()
        )
        refutes = {r.symptom for s in (first, second) for r in s.refuted_by}
        if distance + bool(refutes) < DISTANCE_MIN:
            text = f"differs from {first.name} in {distance} cells: one lost event confuses them"
            yield pack.fault(f"signature:{second.name}", "indistinguishable", text, "warning")
        for covered, covering in ((first, second), (second, first)):
            if _column(covered).keys() < _column(covering).keys():
                text = f"shows nothing that {covering.name} does not show too"
                yield pack.fault(f"signature:{covered.name}", "covered", text, "warning")


def _overlap(first: SignatureSpec, second: SignatureSpec) -> bool:
    """Claim that an entity may meet the structure of both."""
    for one in first.where:
        for other in second.where:
            if one.path == other.path and not any(
                one.holds_for(count) and other.holds_for(count)
                for count in range(max(one.count, other.count) + 2)
            ):
                return False
    return True


def _column(signature: SignatureSpec) -> dict[tuple[str, str], float]:
    return {
        (name, path_text(cell.path)): cell.p for cell in signature.cells for name in cell.symptoms
    }


# ---- policies and tests --------------------------------------------------------------------


def _policies(pack: _Pack) -> Found:
    spoken = {cause for policy in pack.rules.policies for cause in policy.cause}
    for signature in pack.rules.signatures:
        if "*" not in spoken and signature.name not in spoken:
            text = f"no policy says what to do about {signature.name}"
            yield pack.fault(f"signature:{signature.name}", "no-policy", text, "warning")
    for policy in pack.rules.policies:
        yield from _destructive(pack, policy)


def _destructive(pack: _Pack, policy: Policy) -> Found:
    key = f"policy:{policy.name}"
    steps = [(verb, step) for entry in policy.do for verb, step in entry.items()]
    if any(verb == "unfence" and (step is None or step.needs != CLEAN) for verb, step in steps):
        yield pack.fault(key, "no-proof", f"unfence needs {CLEAN}")
    verbs = sorted({verb for verb, _ in steps} & DESTRUCTIVE_VERBS)
    if not verbs:
        return
    guard = policy.guard
    if guard.max is None and guard.stop_if is None and not guard.only_if:
        yield pack.fault(key, "no-guard", f"{verbs[0]} needs a guard: max, stop_if or only_if")
    if policy.confidence_min < CONFIDENCE_MIN:
        text = f"{verbs[0]} needs confidence >= {CONFIDENCE_MIN}, not {policy.confidence}"
        yield pack.fault(key, "low-confidence", text)
    for verb, step in steps:
        if verb in COPYING and (step is None or step.needs != PROOF):
            yield pack.fault(key, "no-proof", f"{verb} needs {PROOF}")


def _tests(pack: _Pack) -> Found:
    names = {signature.name for signature in pack.rules.signatures}
    covered: set[str] = set()
    for located in pack.rules.tests:
        covered |= set(located.test.rules)
        where = located.locations[""]
        for name in sorted(set(located.test.rules) - names):
            text = f"there is no signature {name}"
            yield Fault(where.file, where.line, where.column, "unknown-rule-tested", text)
        lacking = ", ".join(_lacking(located.test))
        if lacking:
            text = f"no case that {lacking}"
            yield Fault(where.file, where.line, where.column, "thin-test", text, "warning")
    own = {name for name in names if f"signature:{name}" in pack.rules.own}
    for name in sorted(own - covered):
        yield pack.fault(f"signature:{name}", "no-test", f"no test covers {name}")


def _lacking(test: RuleTest) -> Iterator[str]:
    """Yield what none of the cases of a test does."""
    expected = [one for case in test.cases for one in case.expect]
    if all(one.cleared for one in expected):
        yield "fires"
    if not any(case.never or case.incidents == 0 for case in test.cases):
        yield "must not"
    if not any(one.cleared for one in expected):
        yield "clears"


CHECKS: tuple[Callable[[_Pack], Found], ...] = (
    _paths,
    _symptoms,
    _numbers,
    _windows,
    _pairs,
    _policies,
    _tests,
)
"""Every check, each with the codes that `lint` lists."""
