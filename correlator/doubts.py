"""Doubts about a verdict itself: what it accuses was just heard, or shares its trouble with others.

Guards like those of `guards.py`, which asks them. They look beyond the incident of the step: at
the pulses of a host, at its failure group, and at neighbours that nobody has explained yet (H7).
"""

from correlator.domain import Domain
from correlator.evidence import accusations, below, groups, is_silent, sources, stands_in
from correlator.plans import PlannedStep, Reason
from schemas.base import kind_of

AGAIN_US = 1_000_000
"""After this a plan that waits for another cause asks again."""


def seen_us(step: PlannedStep) -> int:
    """Return since when a step has had its cause, its witnesses and their planes, live time."""
    limits, told = step.plan.domain.rules.limits, accusations(step)
    for count in range(1, len(told) + 1):
        first = told[:count]
        enough = len(sources(first)) >= limits.sources_min
        if enough and (not ends_root(step) or is_silent(first, limits)):
            return max(step.plan.incident.since_us, first[-1].since_us)
    return step.plan.incident.since_us


def worked_on(domain: Domain, target: str) -> str | None:
    """Return what is under maintenance of an entity and all that it stands on."""
    sessions = domain.state.sessions
    return next((one for one in below(domain, target) if one in sessions), None)


def must_wait(domain: Domain, target: str) -> bool:
    """Claim that what was decided already must not leave now: a hold, a gap, maintenance (I4)."""
    state = domain.state
    unsure = state.hold is not None or state.live_us < state.gap_until_us
    return unsure or worked_on(domain, target) is not None


def ends_root(step: PlannedStep) -> bool:
    """Claim that a step ends the host that its incident takes for dead."""
    root = step.plan.root
    return step.verb == "fence" and root in step.targets and kind_of(root) != "vm"


def ends_host(step: PlannedStep) -> bool:
    """Claim that a step ends a host, for its own sake or for what it has lost."""
    return step.verb == "fence" and any(kind_of(target) != "vm" for target in step.targets)


def speaks_now(step: PlannedStep) -> Reason | None:
    """A host whose collector was just heard runs, whatever others say of it (X22, C03)."""
    state, root = step.plan.domain.state, step.plan.root
    heard_us = state.heard_us.get(root)
    if heard_us is None or not ends_root(step):
        return None
    due_us = heard_us + round(step.plan.domain.rules.limits.heard * 1e6)
    if state.live_us >= due_us:
        return None
    text = f"fence waits: {root} itself was heard {(state.live_us - heard_us) / 1e6:.1f} s ago"
    return Reason("wait", "still_heard", text, due_us)


def shared_cause(step: PlannedStep) -> Reason | None:
    """While what a host shares with others is a cause itself, people release each host (C04b)."""
    if not ends_host(step) or step.plan.incident.is_released:
        return None
    domain, state, root = step.plan.domain, step.plan.domain.state, step.plan.root
    named = [one for one in sorted(stands_in(step)) if domain.standing.naming(one)]
    if not named:
        return None
    text = f"fence waits: {named[0]}, which {root} stands in, is a cause itself"
    due_us = step.plan.incident.opened_us + round(domain.rules.limits.hold_max * 1e6)
    is_over = state.live_us >= due_us
    return Reason("wait", "shared_cause", text, state.live_us + AGAIN_US, page=is_over)


def silent_neighbour(step: PlannedStep) -> Reason | None:
    """A neighbour that fell silent with the root, or since, and has no cause yet may share it."""
    if not ends_host(step) or step.plan.incident.is_released:
        return None
    domain, near = step.plan.domain, stands_in(step)
    silent = (one for one in _unexplained(step) if near & groups(domain, one[1]))
    name, other = next(silent, ("", ""))
    if not other:
        return None
    text = f"fence waits: {name} of {other}, which shares its failure group, has no cause yet"
    return Reason("wait", "neighbour_unexplained", text, domain.state.live_us + AGAIN_US)


def _unexplained(step: PlannedStep) -> list[tuple[str, str]]:
    """Return what stands on others of the root's kind since the root was accused, sorted."""
    domain, root = step.plan.domain, step.plan.root
    accused_us = min((one.since_us for one in accusations(step)), default=seen_us(step))
    since_us = accused_us - round(domain.rules.limits.together * 1e6)
    others = [key for key in domain.standing.free if key[1] != root]
    alike = sorted(key for key in others if kind_of(key[1]) == kind_of(root))
    found = ((key, domain.state.sightings[key]) for key in alike)
    return [
        key
        for key, one in found
        if one.cleared_us is None and one.first_us >= since_us and not domain.is_shown(key)
    ]
