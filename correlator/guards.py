"""Why a plan, or a step of it, must not leave now: one small pure function for each reason.

A guard reads what the planner shows it and returns a `Reason`, or None where it has nothing
against it. The tuples at the end are all there are, in the order in which they are asked; the
first reason is the one that is told. Called by the planner alone.
Keeps: I1 (nothing that needs a fence before the proof of it), I3 (nothing destructive on one
source), I4 (nor in a gap, a hold or maintenance).
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from correlator.domain import Domain
from correlator.rules.conditions import parse_structure
from correlator.rules.paths import parse_path, walk
from correlator.rules.settings import effective
from correlator.state import IncidentState, Sighting, SymptomKey
from schemas.base import kind_of
from schemas.outputs import DESTRUCTIVE_VERBS, WORKLOAD_VERBS, Verb
from schemas.rules import Policy, Step

SOURCES_MIN = 2
"""Independent sources a destructive step needs (failure matrix d5)."""
PLANES_MIN = 2
"""Networks over which a host must be silent before it is fenced (d5)."""
ANCESTORS_MAX = 64
"""Entities an observer may stand on before it counts as outside."""
TOGETHER_US = 2_000_000
"""Roots of one failure group within this time have one cause (d5: 2 s)."""
AGAIN_US = 1_000_000
"""After this a plan that waits for another one asks again."""
HOLD_MAX_US = 120_000_000
"""Longest hold before a person is called (d5: 120 s)."""
STOPPED_BY_USER = "user.vm.stop"
"""Symptom of a VM that its user has ended."""
FAILURE_GROUPS = tuple(map(parse_path, ("^rack", "^switch")))
"""What fails together, from an entity; shared power and switches of a pair come by the rack."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why not, or not yet."""

    verdict: str
    """`wait` where it may pass by itself, else `refuse`."""
    code: str
    text: str
    again_us: int | None = None
    """Live time at which it is worth asking again; None where something else will ask."""
    page: bool = False
    """It has lasted too long: a person must decide."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A policy laid on an incident."""

    domain: Domain
    incident: IncidentState
    policy: Policy

    @property
    def root(self) -> str:
        """The entity that the incident names."""
        return self.incident.fault[1]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of a plan, with what it needs."""

    plan: Plan
    number: int
    verb: Verb
    body: Step
    targets: tuple[str, ...]
    proofs: tuple[tuple[str, str], ...] = ()
    """(idempotency key, state) of each action that must be CONFIRMED first."""


TELLING = frozenset({"notify", "page"})
"""Verbs whose every update is an effect of its own, and which nothing takes back."""
FINAL = frozenset(
    {"CONFIRMED", "FAILED", "TIMED_OUT", "REJECTED", "PREVENTED", "UNKNOWN", "REVOKED"}
)
"""States of an action after which nothing more comes of it."""

PlanGuard = Callable[[Plan], Reason | None]
StepGuard = Callable[[PlannedStep], Reason | None]
TargetGuard = Callable[[PlannedStep, str], Reason | None]


# ---- the whole plan ------------------------------------------------------------------------


def confidence(plan: Plan) -> Reason | None:
    """A policy says how sure it wants to be; what is harmless needs no more than an incident."""
    least = min(plan.policy.confidence_min, plan.domain.rules.knobs.confident)
    return _below_confidence(plan, least)


def _below_confidence(plan: Plan, least: float) -> Reason | None:
    found = plan.incident.confidence
    if found >= least:
        return None
    text = f"{plan.root}: confidence {found:.3f} is below {least}"
    return Reason("wait", "confidence_below_policy", text)


def rejected(plan: Plan) -> Reason | None:
    """A person has said no."""
    if plan.incident.approval != "rejected":
        return None
    return Reason("refuse", "rejected", f"the plan for {plan.root} was rejected")


def structure(plan: Plan) -> Reason | None:
    """A policy may hold for some structures only."""
    for text in plan.policy.guard.only_if:
        if not parse_structure(text).holds(plan.domain.state.topology, plan.root):
            return Reason("refuse", "guard_only_if", f"{plan.root}: {text} does not hold")
    return None


def fleet_share(step: PlannedStep) -> Reason | None:
    """Too many roots of a kind at once: it is us, or what they share (H7)."""
    stop, state = step.plan.policy.guard.stop_if, step.plan.domain.state
    if stop is None:
        return None
    window_us = round(stop.within * 1e6)
    since_us = state.live_us - window_us
    told = [(at, root) for at, root in state.roots_us if at >= since_us]
    hit = len({root for _, root in told if kind_of(root) == stop.roots})
    every = state.topology.kind_counts.get(stop.roots, 0)
    if hit <= stop.share * every:
        return None
    text = f"{hit} of {every} {stop.roots} entities are roots: it is us, or what they share"
    again_us = min(at for at, root in told if kind_of(root) == stop.roots) + window_us + 1
    return Reason("refuse", "guard_stop_if", text, again_us)


def budget(step: PlannedStep) -> Reason | None:
    """So many actions of a policy in a window and no more (I5)."""
    policy, state = step.plan.policy, step.plan.domain.state
    most = policy.guard.max
    if most is None:
        return None
    window_us = round(most.per * 1e6)
    recent = [at for at in state.actions_us.get(policy.name, []) if at >= state.live_us - window_us]
    if len(recent) < most.actions:
        return None
    text = f"{len(recent)} actions in {most.per:g} s are the budget"
    return Reason("refuse", "guard_max", text, recent[-most.actions] + window_us + 1)


# ---- one step ------------------------------------------------------------------------------


def proof(step: PlannedStep) -> Reason | None:
    """A step waits until what it needs is CONFIRMED for the same generation (I1)."""
    states = sorted({state for _, state in step.proofs})
    if not step.body.needs or states == ["CONFIRMED"]:
        return None
    found = ", ".join(states) or "nothing to confirm"
    return Reason("wait", "needs_proof", f"{step.verb} waits for {step.body.needs} ({found})")


def unsure(step: PlannedStep) -> Reason | None:
    """What destroys needs all the confidence that its policy asks for."""
    return _below_confidence(step.plan, step.plan.policy.confidence_min)


def only_suspected(step: PlannedStep) -> Reason | None:
    """A cause that is not named well enough ends nothing."""
    if step.plan.incident.state == "open":
        return None
    text = f"{step.verb} needs a named cause, this one is suspected"
    return Reason("refuse", "only_suspected", text)


def held(step: PlannedStep) -> Reason | None:
    """An operator, or a doubt about the domain, holds it (I4)."""
    hold = step.plan.domain.state.hold
    if hold is None:
        return None
    return Reason("wait", "domain_hold", f"{step.verb} waits: the domain is held ({hold})")


def unapproved(step: PlannedStep) -> Reason | None:
    """In mode approve a person decides about what destroys."""
    incident = step.plan.incident
    if incident.mode != "approve" or incident.approval == "approved":
        return None
    text = f"{step.verb} of {step.plan.root} needs an approval ({incident.incident_id})"
    return Reason("wait", "needs_approval", text, page=True)


def still_moving(step: PlannedStep) -> Reason | None:
    """A host comes back when every workload has left it for good, and never unfenced (I12, H16)."""
    if step.verb != "unfence":
        return None
    sent = step.plan.incident.sent
    running = [one for one in sent if one.verb in WORKLOAD_VERBS and one.state not in FINAL]
    fenced = any(one.verb == "fence" and one.state == "CONFIRMED" for one in sent)
    if fenced and not running:
        return None
    found = f"{len(running)} workloads are on their way" if fenced else "it was never fenced"
    return Reason("wait", "still_moving", f"unfence of {step.plan.root} waits: {found}")


def stream_gap(step: PlannedStep) -> Reason | None:
    """After a gap of the log nobody knows what was missed (I4)."""
    state = step.plan.domain.state
    if state.live_us >= state.gap_until_us:
        return None
    text = f"{step.verb} waits: the log has just had a gap"
    return Reason("wait", "stream_gap", text, state.gap_until_us)


def one_witness(step: PlannedStep) -> Reason | None:
    """One liar condemns nobody, nor does what stands on what is accused (I3, H5).

    Only those count who saw the root or the target itself: what an accomplice of the liar misses
    elsewhere is no second witness.
    """
    about = {step.plan.root, *step.targets}
    sources = {name for _, one in _standing(step, about) for name in one.witnesses}
    outside = [
        name
        for name in sorted(sources)
        if about.isdisjoint(_below(step.plan.domain, name.partition("/")[0]))
    ]
    if len(outside) >= SOURCES_MIN:
        return None
    text = f"{step.verb} needs {SOURCES_MIN} sources outside {step.plan.root}, has {len(outside)}"
    return Reason("wait", "one_witness", text)


def one_plane(step: PlannedStep) -> Reason | None:
    """A lost network looks like a dead host on that network; a hard fact does not (H6)."""
    if step.verb != "fence":
        return None
    about = {step.plan.root, *step.targets}
    standing, symptoms = list(_standing(step, about)), step.plan.domain.rules.symptoms
    planes = sorted({plane for _, one in standing for plane in one.planes})
    if len(planes) >= PLANES_MIN or any(symptoms[key[0]].hard for key, _ in standing):
        return None
    found = ", ".join(planes) or "none is named"
    text = f"{step.verb} needs {PLANES_MIN} planes or a hard fact, there is: {found}"
    return Reason("wait", "one_plane", text)


def one_at_a_time(step: PlannedStep) -> Reason | None:
    """One fence runs in a domain; the next waits for what it shows (d5)."""
    if step.verb != "fence":
        return None
    state, own = step.plan.domain.state, step.plan.incident
    running = [
        sent.target
        for name, incident in sorted(state.incidents.items(), key=lambda one: one[0])
        for sent in incident.sent
        if name != own.incident_id and sent.verb == "fence" and sent.state not in FINAL
    ]
    if not running:
        return None
    text = f"fence of {step.plan.root} waits: {running[0]} is being fenced"
    return Reason("wait", "fence_running", text, state.live_us + AGAIN_US)


def _standing(step: PlannedStep, about: set[str]) -> Iterator[tuple[SymptomKey, Sighting]]:
    """Yield what stands on some entities and belongs to the incident."""
    domain, own = step.plan.domain, step.plan.incident.incident_id
    for key in domain.standing.on(sorted(about)):
        sighting = domain.state.sightings[key]
        if sighting.cleared_us is None and sighting.incident == own:
            yield key, sighting


def _below(domain: Domain, entity: str) -> Iterator[str]:
    """Yield an entity and what it stands on, the nearest first."""
    topology = domain.state.topology
    waiting, met = deque([entity]), set[str]()
    while waiting and len(met) < ANCESTORS_MAX:
        node = waiting.popleft()
        if node not in met:
            met.add(node)
            yield node
            waiting += topology.dependencies(node)


def failure_group(step: PlannedStep) -> Reason | None:
    """Two hosts of one rack or switch at once are what they share, until proven otherwise (H7)."""
    state, root = step.plan.domain.state, step.plan.root
    began_us = step.plan.incident.opened_us
    shared = _groups(step.plan.domain, root)
    near = sorted(
        other
        for at_us, other in state.roots_us
        if abs(at_us - began_us) <= TOGETHER_US
        and other != root
        and kind_of(other) == kind_of(root)
        and shared & _groups(step.plan.domain, other)
    )
    if not near:
        return None
    text = f"{step.verb} waits: {root} and {near[0]} share a failure group and failed together"
    due_us = began_us + HOLD_MAX_US
    is_over = state.live_us >= due_us
    return Reason("wait", "group_hold", text, None if is_over else due_us, page=is_over)


def _groups(domain: Domain, entity: str) -> set[str]:
    topology = domain.state.topology
    return {one for path in FAILURE_GROUPS for one in walk(topology, entity, path)}


def speaks_again(step: PlannedStep) -> Reason | None:
    """A root whose own symptoms clear is not as dead as was thought (X22)."""
    domain, root = step.plan.domain, step.plan.root
    keys = domain.standing.held_by(step.plan.incident.incident_id)
    gone = [key for key in keys if key[1] == root and not domain.stands(key)]
    if not gone:
        return None
    text = f"{step.verb} waits: {gone[0][0]} of {root} has cleared"
    return Reason("wait", "contradictory_evidence", text, page=True)


def too_young(step: PlannedStep) -> Reason | None:
    """A common cause gets the time to show before anything is ended."""
    state, policy = step.plan.domain.state, step.plan.policy
    since_us = step.plan.incident.since_us
    due_us = since_us + round(policy.hold * 1e6)
    own_us = _own_since_us(step) if policy.hold_alone is not None else None
    if own_us is not None and policy.hold_alone is not None:
        due_us = min(due_us, max(since_us, own_us) + round(policy.hold_alone * 1e6))
    if state.live_us >= due_us:
        return None
    text = f"{step.plan.root} must stay the best explanation for {policy.hold:g} s"
    return Reason("wait", "hold", text, due_us)


def _own_since_us(step: PlannedStep) -> int | None:
    """Return since when it is known that the root has failed alone, None where it is not.

    A hard fact says so, or an observer that stands on what the root shares with others and works.
    """
    domain, about = step.plan.domain, {step.plan.root, *step.targets}
    shared = _groups(domain, step.plan.root)
    alone = (
        sighting.first_us
        for key, sighting in _standing(step, about)
        if domain.rules.symptoms[key[0]].hard
        or any(_stands_beside(domain, name, about, shared) for name in sighting.witnesses)
    )
    return min(alone, default=None)


def _stands_beside(domain: Domain, source: str, about: set[str], shared: set[str]) -> bool:
    below = set(_below(domain, source.partition("/")[0]))
    return about.isdisjoint(below) and not shared.isdisjoint(below)


# ---- one target of a step ------------------------------------------------------------------


def opted_out(step: PlannedStep, target: str) -> Reason | None:
    """An owner may have said that nobody else restarts or moves it (I9)."""
    is_workload = step.verb in WORKLOAD_VERBS
    if not is_workload or effective(step.plan.domain.rules.settings, target).recover:
        return None
    return Reason("refuse", "opted_out", f"{step.verb} {target}: its owner has opted out")


def stopped_by_user(step: PlannedStep, target: str) -> Reason | None:
    """What a user has stopped is as it should be (I9, H27)."""
    is_workload = step.verb in WORKLOAD_VERBS
    if not is_workload or not step.plan.domain.stands((STOPPED_BY_USER, target)):
        return None
    return Reason("refuse", "stopped_by_user", f"{step.verb} {target}: a user has stopped it")


def maintenance(step: PlannedStep, target: str) -> Reason | None:
    """What is worked on, and all that stands on it, is its operator's (I4)."""
    state = step.plan.domain.state
    if step.verb in TELLING or not state.sessions:
        return None
    below = next((one for one in _below(step.plan.domain, target) if one in state.sessions), None)
    if below is None:
        return None
    text = f"{step.verb} {target}: {below} is under maintenance by {state.sessions[below].by}"
    return Reason("refuse", "maintenance", text)


PLAN_GUARDS: tuple[PlanGuard, ...] = (confidence, rejected, structure)
STEP_GUARDS: tuple[StepGuard, ...] = (proof, still_moving)
DESTRUCTIVE_GUARDS: tuple[StepGuard, ...] = (
    fleet_share,
    budget,
    unsure,
    only_suspected,
    unapproved,
    held,
    stream_gap,
    speaks_again,
    one_witness,
    one_plane,
    failure_group,
    too_young,
    one_at_a_time,
)
TARGET_GUARDS: tuple[TargetGuard, ...] = (opted_out, stopped_by_user, maintenance)


def against_plan(plan: Plan) -> Reason | None:
    """Return the first reason against a plan as a whole."""
    return next(filter(None, (guard(plan) for guard in PLAN_GUARDS)), None)


def against_step(step: PlannedStep) -> Reason | None:
    """Return the first reason against a step; harmless steps are asked fewer questions."""
    guards = STEP_GUARDS
    if step.verb in DESTRUCTIVE_VERBS:
        guards = (*STEP_GUARDS, *DESTRUCTIVE_GUARDS)
    return next(filter(None, (guard(step) for guard in guards)), None)


def against_target(step: PlannedStep, target: str) -> Reason | None:
    """Return the first reason against one target of a step that others may well be taken to."""
    return next(filter(None, (guard(step, target) for guard in TARGET_GUARDS)), None)
