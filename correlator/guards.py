"""Why a plan, or a step of it, must not leave now: one small pure function for each reason.

A guard reads what the planner shows it and returns a `Reason`, or None where it has nothing
against it. The tuples at the end are all there are, in the order in which they are asked; the
first reason is the one that is told. Called by the planner alone. Limits are the rule set's.
Keeps: I1 (nothing that needs a fence before the proof of it), I3 (nothing destructive on one
source), I4 (nor in a gap, a hold or maintenance), I12 (unfence when all that moved has arrived).
"""

from collections.abc import Callable

from correlator import shared
from correlator.domain import Domain
from correlator.doubts import (
    AGAIN_US,
    ends_host,
    ends_root,
    seen_us,
    shared_cause,
    silent_neighbour,
    speaks_now,
)
from correlator.evidence import (
    accusations,
    below,
    dumping_until_us,
    groups,
    is_lost_nearby,
    is_silent,
    planes,
    shows_silence,
    sources,
    standing,
)
from correlator.plans import FINAL, Plan, PlannedStep, Reason
from correlator.rules.conditions import parse_structure
from correlator.state import HELD, Sent
from correlator.targets import (
    carries_us,
    cuts_power,
    dumping,
    maintenance,
    net_is_moving,
    no_destination,
    no_dump,
    not_its_way,
    opted_out,
    other_owner,
    owner_holds,
    stopped_by_user,
    too_often,
)
from schemas.base import kind_of
from schemas.outputs import DESTRUCTIVE_VERBS, WORKLOAD_VERBS
from schemas.rules import Budget

LOOK_AGAIN_US = 200_000
"""So often a hold is asked whether a hard fact has come that shortens it."""
LEASE_US = 60_000_000
"""So long an actuator may still be at what it has accepted (action contract)."""
COOPERATIVE = frozenset({"live_migrate"})
"""The source ends only when the destination runs (libvirt), so that no second witness is asked."""
SETTLING = WORKLOAD_VERBS | {"fence", "cleanup_net"}
"""Verbs after which a host that is to come back is left alone for a while."""


PlanGuard = Callable[[Plan], Reason | None]
StepGuard = Callable[[PlannedStep], Reason | None]
TargetGuard = Callable[[PlannedStep, str], Reason | None]
MethodGuard = Callable[[PlannedStep, str, str], Reason | None]


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
    """Too many roots of a kind at once, or hosts ended: it is us, or what they share (H7, I5)."""
    stop = step.plan.policy.guard.stop_if
    if stop is None:
        return None
    reason = _over_share(step, stop.roots, stop.share, stop.within)
    if reason is None and step.verb == "fence" and stop.roots != "host":
        reason = _over_share(
            step, "host", step.plan.domain.rules.limits.fleet_share_max, stop.within
        )
    return reason


def _over_share(step: PlannedStep, kind: str, share: float, within_s: float) -> Reason | None:
    """Count roots and what was fenced, with what this step would add (H8)."""
    state, window_us = step.plan.domain.state, round(within_s * 1e6)
    since_us = state.live_us - window_us
    told = [(at, one) for at, one in state.roots_us if at >= since_us and kind_of(one) == kind]
    ended = () if kind == kind_of(step.plan.root) else step.targets
    hit = len({one for _, one in told} | {one for one in ended if kind_of(one) == kind})
    every = state.topology.kind_counts.get(kind, 0)
    if hit <= share * every:
        return None
    text = f"{hit} of {every} {kind} entities are roots: it is us, or what they share"
    again_us = min((at for at, _ in told), default=state.live_us) + window_us + 1
    return Reason("refuse", "guard_stop_if", text, again_us)


def budget(step: PlannedStep) -> Reason | None:
    """So many actions of a policy in a window and no more (I5)."""
    most = step.plan.policy.guard.max
    if most is None or budget_left(step):
        return None
    recent = _counted_us(step, most)
    text = f"{len(recent)} actions in {most.per:g} s are the budget"
    again_us = recent[-most.actions] + round(most.per * 1e6) + 1
    return Reason("refuse", "guard_max", text, again_us)


def budget_left(step: PlannedStep) -> int:
    """Return how many more actions the budget of a policy has room for; many where it has none."""
    most = step.plan.policy.guard.max
    if most is None:
        return step.plan.domain.rules.limits.workloads_running_max
    return max(0, most.actions - len(_counted_us(step, most)))


def _counted_us(step: PlannedStep, most: Budget) -> list[int]:
    """Return when the policy of a step has acted within the window of its budget, live time."""
    state = step.plan.domain.state
    since_us = state.live_us - round(most.per * 1e6)
    return [at for at in state.actions_us.get(step.plan.policy.name, []) if at >= since_us]


# ---- one step ------------------------------------------------------------------------------


def proof(step: PlannedStep) -> Reason | None:
    """A step waits until what it needs is CONFIRMED for the same generation (I1)."""
    needs, states = step.body.needs or "", sorted({state for _, state in step.proofs})
    if not needs.endswith(".confirmed") or states == ["CONFIRMED"]:
        return None
    found = ", ".join(states) or "nothing to confirm"
    return Reason("wait", "needs_proof", f"{step.verb} waits for {needs} ({found})")


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


def region_asked(step: PlannedStep) -> Reason | None:
    """What may be of a cause that other domains share waits for the region's word.

    For a moment all does; what destroys waits until the region has said something (wire page:
    none in 300 ms, harmless acts only).
    """
    found = shared.unanswered(step.plan.domain.state, step.plan.incident)
    if found is None or step.plan.incident.approval == "approved":
        return None
    resource, until_us = found
    text = f"{step.verb} waits: {resource}, which other domains share, may be the cause instead"
    if until_us is not None:
        return Reason("wait", "region_asked", text, until_us)
    is_harmless = step.verb not in DESTRUCTIVE_VERBS
    return None if is_harmless else Reason("wait", "region_silent", text)


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
    least, found = step.plan.domain.rules.limits.sources_min, len(sources(accusations(step)))
    if step.verb in COOPERATIVE or found >= least:
        return None
    text = f"{step.verb} needs {least} sources outside {step.plan.root}, has {found}"
    return Reason("wait", "one_witness", text, _again_us(step))


def one_plane(step: PlannedStep) -> Reason | None:
    """A lost network looks like a dead host on that network, whatever a BMC says of it (H6, X22).

    What only the host itself can tell of, its paths, needs no silence: it is alive (C12b).
    """
    if not ends_host(step):
        return None
    limits, told = step.plan.domain.rules.limits, accusations(step)
    least, many = limits.planes_min, len(sources(told)) >= limits.sources_min
    # Where there are too few witnesses, that is said by the guard before.
    if is_silent(told, limits) if many and ends_root(step) else shows_silence(step, least):
        return None
    named = ", ".join(planes(told)) or "none is named"
    text = f"{step.verb} needs {least} planes, whoever of its witnesses is wrong, there is: {named}"
    return Reason("wait", "one_plane", text, _again_us(step))


def _again_us(step: PlannedStep) -> int | None:
    """Return when to ask again of a host: what a neighbour has lost may count when it is back."""
    is_shared = ends_host(step) and is_lost_nearby(step)
    return step.plan.domain.state.live_us + AGAIN_US if is_shared else None


def one_at_a_time(step: PlannedStep) -> Reason | None:
    """So many fences run in a domain; the next waits for what they show (d5)."""
    if step.verb != "fence":
        return None
    most = step.plan.domain.rules.limits.fences_running_max
    state, own = step.plan.domain.state, step.plan.incident
    running = [
        sent.target
        for name, incident in sorted(state.incidents.items(), key=lambda one: one[0])
        for sent in incident.sent
        if name != own.incident_id and sent.verb == "fence" and _may_be_running(sent, state.live_us)
    ]
    if len(running) < most:
        return None
    text = f"fence of {step.plan.root} waits: {running[0]} is being fenced"
    return Reason("wait", "fence_running", text, state.live_us + AGAIN_US)


def _may_be_running(sent: Sent, live_us: int) -> bool:
    """Claim that an action is under way, also one that was given up while its actuator was at it.

    The actuator ends it by itself, or says more (action contract: its lease is a minute longer).
    """
    left_alone = sent.state == "TIMED_OUT" and sent.accepted_us is not None
    return sent.state not in FINAL or (left_alone and live_us < (sent.accepted_us or 0) + LEASE_US)


def failure_group(step: PlannedStep) -> Reason | None:
    """Two hosts of one rack or switch at once are what they share, until proven otherwise (H7).

    It ends when the others have recovered, or with a person's word (H10).
    """
    state, limits = step.plan.domain.state, step.plan.domain.rules.limits
    incident, root = step.plan.incident, step.plan.root
    near = [] if incident.is_released else _failed_together(step)
    if not near:
        return None
    text = f"{step.verb} waits: {root} and {near[0]} share a failure group and failed together"
    due_us = incident.opened_us + round(limits.hold_max * 1e6)
    is_over = state.live_us >= due_us
    again_us = None if is_over else min(due_us, state.live_us + AGAIN_US)
    return Reason("wait", "group_hold", text, again_us, page=is_over)


def _failed_together(step: PlannedStep) -> list[str]:
    """Return the roots that share a failure group, failed with it, and have not recovered."""
    domain, root = step.plan.domain, step.plan.root
    began_us, shared = step.plan.incident.since_us, groups(domain, root)
    together_us = round(domain.rules.limits.together * 1e6)
    return sorted(
        other
        for at_us, other in domain.state.roots_us
        if abs(at_us - began_us) <= together_us
        and other != root
        and kind_of(other) == kind_of(root)
        and shared & groups(domain, other)
        and not _has_recovered(domain, other)
    )


def _has_recovered(domain: Domain, root: str) -> bool:
    """Claim that nothing stands any more of what the incidents of a root were opened for."""
    held = (key for name in domain.standing.naming(root) for key in domain.standing.held_by(name))
    return not any(domain.stands(key) for key in held)


def cooling_down(step: PlannedStep) -> Reason | None:
    """When a storm ends, only half have reported: each target is confirmed anew (H9, X13).

    Two sources again, and two planes or a hard fact, told after the storm; else time goes by.
    """
    state, limits = step.plan.domain.state, step.plan.domain.rules.limits
    calm_us = step.plan.incident.calm_us
    if calm_us in (None, HELD) or step.plan.incident.is_released:
        return None
    due_us = int(calm_us or 0) + round(limits.cool_down * 1e6)
    if state.live_us >= due_us or _is_confirmed(step, int(calm_us or 0) + 1):
        return None
    text = f"{step.verb} waits: a storm has just passed, {step.plan.root} is to be confirmed anew"
    return Reason("wait", "cool_down", text, due_us)


def _is_confirmed(step: PlannedStep, since_us: int) -> bool:
    limits = step.plan.domain.rules.limits
    told = accusations(step, since_us)
    least = 1 if step.verb in COOPERATIVE else limits.sources_min
    silent = not ends_root(step) or is_silent(told, limits)
    return len(sources(told)) >= least and silent


def speaks_again(step: PlannedStep) -> Reason | None:
    """A root whose own symptoms clear is not as dead as was thought (X22)."""
    domain, root = step.plan.domain, step.plan.root
    keys = domain.standing.held_by(step.plan.incident.incident_id)
    gone = [key for key in keys if key[1] == root and not domain.stands(key)]
    if not gone:
        return None
    text = f"{step.verb} waits: {gone[0][0]} of {root} has cleared"
    # That what is to be drained, or only restarted, gets better contradicts nobody.
    mild = step.verb in COOPERATIVE or kind_of(root) == "vm"
    return Reason("wait", "contradictory_evidence", text, page=not mild)


def too_young(step: PlannedStep) -> Reason | None:
    """A common cause gets the time to show, from when all was there that a step needs."""
    state, policy = step.plan.domain.state, step.plan.policy
    since_us = seen_us(step)
    due_us = since_us + round(policy.hold * 1e6)
    own_us = _own_since_us(step) if policy.hold_alone is not None else None
    if own_us is not None and policy.hold_alone is not None:
        due_us = min(due_us, max(since_us, own_us) + round(policy.hold_alone * 1e6))
    if state.live_us >= due_us:
        return None
    text = f"{step.plan.root} must stay the best explanation for {policy.hold:g} s"
    if own_us is None and policy.hold_alone is not None:  # What was expected asks for no look.
        due_us = min(due_us, state.live_us + LOOK_AGAIN_US)
    return Reason("wait", "hold", text, due_us)


def _own_since_us(step: PlannedStep) -> int | None:
    """Return since when it is known that the root has failed alone, None where it is not.

    A hard fact says so, or an observer that stands on what the root shares with others and works.
    """
    domain, about = step.plan.domain, {step.plan.root, *step.targets}
    shared = groups(domain, step.plan.root)
    alone = (
        sighting.first_us
        for key, sighting in standing(step)
        if domain.rules.symptoms[key[0]].hard
        or any(_stands_beside(domain, name, about, shared) for name in sighting.witnesses)
    )
    return min(alone, default=None)


def _stands_beside(domain: Domain, source: str, about: set[str], shared: set[str]) -> bool:
    under = set(below(domain, source.partition("/")[0]))
    return about.isdisjoint(under) and not shared.isdisjoint(under)


# ---- letting a host back ---------------------------------------------------------------------


def still_moving(step: PlannedStep) -> Reason | None:
    """A host comes back when every workload has left it for good, and never unfenced (I12, H16)."""
    if step.verb != "unfence":
        return None
    incidents = step.plan.domain.state.incidents
    running = [
        sent.target
        for name in sorted(incidents)
        for sent in incidents[name].sent
        if sent.verb in WORKLOAD_VERBS and sent.state not in FINAL
        if incidents[name] is step.plan.incident or sent.source in step.targets
    ]
    moving = sorted({*running, *step.unsettled})
    if _proven_fences(step) and not moving:
        return None
    found = f"{len(moving)} workloads are on their way" if moving else "it was never fenced"
    return Reason("wait", "still_moving", f"unfence of {step.plan.root} waits: {found}")


def _proven_fences(step: PlannedStep) -> list[Sent]:
    sent = step.plan.incident.sent
    return [one for one in sent if one.verb == "fence" and one.state == "CONFIRMED"]


def not_rebooted(step: PlannedStep) -> Reason | None:
    """What was kept from its disks, and not ended, still holds its old copies (H16).

    Off, it boots when it is let back; else a new boot must have been seen since the fence.
    """
    generations = step.plan.domain.state.generations
    old = [
        one.target
        for one in _proven_fences(step)
        if not cuts_power(one.method) and generations.get(one.target, 0) <= one.generation
    ]
    if not old:
        return None
    text = f"unfence of {old[0]} waits: it has not booted since it was fenced"
    return Reason("wait", "not_rebooted", text)


def soaking(step: PlannedStep) -> Reason | None:
    """Let back only when all has been quiet for a while: its moves, its clean-up, its boot (d5)."""
    state, limits = step.plan.domain.state, step.plan.domain.rules.limits
    ends = [one.ended_us for one in step.plan.incident.sent if one.verb in SETTLING]
    boots = [state.booted_us.get(target, 0) for target in step.targets]
    dumps = [dumping_until_us(step.plan.domain, target) or 0 for target in step.targets]
    due_us = max(max([*ends, *boots]) + round(limits.soak * 1e6), *dumps)
    if state.live_us >= due_us:
        return None
    text = f"unfence of {step.plan.root} waits until all has been quiet for {limits.soak:g} s"
    return Reason("wait", "soak", text, due_us)


PLAN_GUARDS: tuple[PlanGuard, ...] = (confidence, rejected, structure)
STEP_GUARDS: tuple[StepGuard, ...] = (proof, still_moving, net_is_moving, region_asked)
DESTRUCTIVE_GUARDS: tuple[StepGuard, ...] = (
    fleet_share,
    budget,
    unsure,
    only_suspected,
    unapproved,
    held,
    stream_gap,
    speaks_again,
    speaks_now,
    failure_group,
    one_witness,
    one_plane,
    shared_cause,
    silent_neighbour,
    cooling_down,
    too_young,
    one_at_a_time,
    carries_us,
)
STORM_GUARDS: tuple[StepGuard, ...] = (fleet_share, failure_group, held)
"""Those after which a target is confirmed anew; each is among the destructive ones, too."""
RESTART_GUARDS: tuple[StepGuard, ...] = (budget, unsure, held, too_young)
"""What a process does for others ends while it starts again."""
RETURN_GUARDS: tuple[StepGuard, ...] = (unapproved, held, stream_gap, not_rebooted, soaking)
TARGET_GUARDS: tuple[TargetGuard, ...] = (
    opted_out,
    stopped_by_user,
    maintenance,
    too_often,
    other_owner,
    not_its_way,
    owner_holds,
)
PLACE_GUARDS: tuple[TargetGuard, ...] = (no_destination,)
"""Asked last, of what nothing else holds: they look at all hosts."""
METHOD_GUARDS: tuple[MethodGuard, ...] = (dumping, no_dump)


def against_plan(plan: Plan) -> Reason | None:
    """Return the first reason against a plan as a whole."""
    return next(filter(None, (guard(plan) for guard in PLAN_GUARDS)), None)


def against_step(step: PlannedStep) -> Reason | None:
    """Return the first reason against a step; harmless steps are asked fewer questions."""
    guards = STEP_GUARDS
    if step.verb in DESTRUCTIVE_VERBS:
        guards = (*STEP_GUARDS, *DESTRUCTIVE_GUARDS)
    if step.verb == "restart_process":
        guards = (*STEP_GUARDS, *RESTART_GUARDS)
    if step.verb == "unfence":
        guards = (*STEP_GUARDS, *RETURN_GUARDS)
    return next(filter(None, (guard(step) for guard in guards)), None)


def in_storm(step: PlannedStep) -> bool:
    """Claim that a storm, and no reason of its own, holds a step."""
    return any(guard(step) for guard in DESTRUCTIVE_GUARDS if guard in STORM_GUARDS)


def against_target(step: PlannedStep, target: str) -> Reason | None:
    """Return the first reason against one target of a step that others may well be taken to."""
    return next(filter(None, (guard(step, target) for guard in TARGET_GUARDS)), None)


def against_place(step: PlannedStep, target: str) -> Reason | None:
    """Return the first reason why a target of a step that may leave has nowhere to go."""
    return next(filter(None, (guard(step, target) for guard in PLACE_GUARDS)), None)


def against_method(step: PlannedStep, target: str, method: str) -> Reason | None:
    """Return the first reason against one method of a fence that another may well replace."""
    return next(filter(None, (guard(step, target, method) for guard in METHOD_GUARDS)), None)
