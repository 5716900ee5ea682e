"""From a cause to steps: guards first, harmless steps at once, destructive ones only with proof.

Reads one domain and one incident; what it decides leaves as `Decision`s and `Action`s. The
reasons against a step are in `guards.py`, what may be tried again in `attempts.py`. When all
methods of a fence have failed a person is paged, and nothing that needed it ever leaves.
Keeps: I6 (one idempotency key per effect); with the guards I1, I3 and I4.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace

from correlator.actions import emit, made, say
from correlator.attempts import (
    FAILED,
    best_proof,
    has_failed,
    is_settled,
    last_of,
    may_try,
    next_method,
    next_us,
    on_timeout,
)
from correlator.counts import made_from, with_replacements
from correlator.domain import Domain
from correlator.doubts import AGAIN_US
from correlator.evidence import holds
from correlator.guards import (
    SETTLING,
    TargetGuard,
    against_place,
    against_plan,
    against_step,
    against_target,
    budget_left,
    in_storm,
)
from correlator.owners import lost_cards, notice
from correlator.placement import PLACED_VERBS, Nowhere, ended_with, placed
from correlator.plans import FINAL, TELLING, Plan, PlannedStep, Reason, tried
from correlator.rules.paths import parse_path, walk
from correlator.state import HELD, IncidentState, Sent
from correlator.targets import not_its_way, owner_holds
from schemas.outputs import DESTRUCTIVE_VERBS, WORKLOAD_VERBS
from schemas.rules import Policy, Step

ANSWERED = frozenset({"rejected", "guard_only_if"})
"""Reasons that end a plan: nobody needs to be called for them."""
NEVER_KEPT_OUT = frozenset({"FAILED", "REJECTED", "PREVENTED"})
"""States of a quarantine that has had no effect."""
LET_BACK_STEP = Step(tries=3)
LET_BACK = Policy(
    kind="policy", name="let-back", cause=["*"], confidence=">= 0.9", do=[{"unquarantine": None}]
)
"""What is done when an incident ends, whatever its policy said."""


def plan(domain: Domain, incident: IncidentState) -> None:
    """Decide what to do about an incident now; say each reason once."""
    policy = policy_for(domain, incident.fault[0])
    if policy is None:
        text = f"no policy speaks of {incident.fault[0]}"
        say(domain, incident, "", Reason("note", "no_policy", text))
        return
    _time_out(domain, incident)
    laid = Plan(domain, incident, policy)
    reason = against_plan(laid)
    if reason is not None:
        _wait(laid, policy.name, reason)
        _page_overdue(laid, reason)
        return
    steps = with_replacements(laid, _steps(laid))
    _tell_owners(steps)
    waiting = _take(steps)
    if waiting is None or waiting.verb not in DESTRUCTIVE_VERBS:
        _page_in_vain(laid, steps)


def _take(steps: list[PlannedStep]) -> PlannedStep | None:
    """Take each step whose turn it is; return the first that must wait as a whole."""
    earlier: list[PlannedStep] = []
    for step in steps:
        if not _has_its_turn(step, earlier):
            continue
        ready = _ready(step, earlier)
        earlier.append(step)
        reason = _against(ready) if any(may_try(ready, one) for one in ready.targets) else None
        if reason is not None:
            _wait(step.plan, f"{step.plan.policy.name} step {step.number}", reason)
            if reason.page:
                _page(ready, step.plan.root, reason)
            if step.verb in DESTRUCTIVE_VERBS:
                _page_overdue(step.plan, reason)
            return step
        for target in _in_turn(_placeable(ready)):
            _try(ready, target)
    return None


def policy_for(domain: Domain, signature: str) -> Policy | None:
    """Return the policy that names a signature, else the one for all, else None."""
    named = (p for p in domain.rules.policies if signature in p.cause)
    general = (p for p in domain.rules.policies if "*" in p.cause)
    return next(named, None) or next(general, None)


def _steps(laid: Plan) -> list[PlannedStep]:
    written = [(verb, body or Step()) for entry in laid.policy.do for verb, body in entry.items()]
    fixed = laid.incident.targets
    steps = []
    for number, (verb, body) in enumerate(written, start=1):
        key = f"{laid.policy.name} {number}"
        if key not in fixed:
            fixed[key] = list(_targets(laid, body.target))
        steps.append(PlannedStep(laid, number, verb, body, tuple(fixed[key])))
    return steps


def _targets(laid: Plan, target: str) -> tuple[str, ...]:
    path = target.removeprefix("$root").removeprefix(".")
    topology = laid.domain.state.topology
    return walk(topology, laid.root, parse_path(path)) if path else (laid.root,)


def _has_its_turn(step: PlannedStep, earlier: list[PlannedStep]) -> bool:
    """Claim that a step comes now, for some target; of the earlier ones those that did are given.

    The facts it asks for are known, and none that it excludes; what was to fail has failed, and
    what is to be confirmed has had its turn.
    """
    domain, root, body = step.plan.domain, step.plan.root, step.body
    if _is_excluded(step):
        return False
    if body.when is not None and not any(holds(domain, root, fact) for fact in body.when):
        return False
    needed, _, outcome = (body.needs or "").partition(".")
    before = [one for one in earlier if one.verb == needed]
    if outcome == "failed":
        return any(_is_left(step, before, target) for target in step.targets)
    return bool(before) or not _is_written_before(step, needed)


def _is_excluded(step: PlannedStep) -> bool:
    """Claim that a fact is known under which the step is not to be taken."""
    domain, root = step.plan.domain, step.plan.root
    return any(holds(domain, root, fact) for fact in step.body.unless or [])


def _is_written_before(step: PlannedStep, verb: str) -> bool:
    return any(verb in entry for entry in step.plan.policy.do[: step.number - 1])


def _ready(step: PlannedStep, earlier: list[PlannedStep]) -> PlannedStep:
    """Return a step with the targets it may be taken to now, and with what it needs."""
    needed, _, outcome = (step.body.needs or "").partition(".")
    before = [one for one in earlier if one.verb == needed]
    if outcome == "failed":
        left = tuple(target for target in step.targets if _is_left(step, before, target))
        return replace(step, targets=_allowed(replace(step, targets=left)))
    proofs = tuple(best_proof(one, target) for one in before for target in one.targets)
    unsettled = tuple(_unsettled(earlier)) if step.verb == "unfence" else ()
    ready = replace(step, proofs=proofs, unsettled=unsettled)
    return replace(ready, targets=_allowed(ready))


def _is_left(step: PlannedStep, before: list[PlannedStep], target: str) -> bool:
    """Claim that the earlier step has failed for good: for the target itself, if it was one.

    To tell of it, it is enough that nobody knows whether a workload has moved; to do more is not.
    """
    claim = _is_lost if step.verb in TELLING else _is_spent
    about = [(one, (target,) if target in one.targets else one.targets) for one in before]
    return any(claim(one, other) for one, targets in about for other in targets)


def _is_spent(step: PlannedStep, target: str) -> bool:
    """Claim that a step has failed for good, or that its site does not allow it at all."""
    return has_failed(step, target) or not_its_way(step, target) is not None


def _is_lost(step: PlannedStep, target: str) -> bool:
    last = last_of(step, target)
    return last is not None and is_settled(step, target) and last.state in FAILED


def _unsettled(earlier: list[PlannedStep]) -> Iterator[str]:
    """Yield the workloads that may still be moved."""
    for step in earlier:
        if step.verb in WORKLOAD_VERBS:
            for target in step.targets:
                reason = None if is_settled(step, target) else against_target(step, target)
                if not is_settled(step, target) and (reason is None or reason.verdict == "wait"):
                    yield target


def _allowed(step: PlannedStep) -> tuple[str, ...]:
    """Return the targets that nothing speaks against; say what speaks against the others."""
    return _without(step, against_target)


def _placeable(step: PlannedStep) -> PlannedStep:
    """Return a step with the targets that have somewhere to go; say why the others have not."""
    return replace(step, targets=_without(step, against_place))


def _without(step: PlannedStep, against: TargetGuard) -> tuple[str, ...]:
    allowed = []
    for target in step.targets:
        reason = against(step, target) if may_try(step, target) else None
        if reason is None:
            allowed.append(target)
            continue
        _wait(step.plan, f"{step.verb} {target}", reason)
        if reason.page:
            _page(step, target, reason)
    return tuple(allowed)


def _against(step: PlannedStep) -> Reason | None:
    """Return the first reason against a step; note when a storm that held it has passed."""
    if step.verb in DESTRUCTIVE_VERBS:
        incident = step.plan.incident
        if in_storm(step):
            incident.calm_us = HELD
        elif incident.calm_us == HELD:
            incident.calm_us = step.plan.domain.state.live_us
    return against_step(step)


def _in_turn(step: PlannedStep) -> list[str]:
    """Return the targets whose turn it is: workloads by priority, one group after the other."""
    if step.verb not in WORKLOAD_VERBS:
        return list(step.targets)
    groups: dict[int, list[str]] = {}
    for target in step.targets:
        turn = step.plan.domain.book.of(target).priority
        groups.setdefault(turn, []).append(target)
    for _, group in sorted(groups.items()):
        if not all(is_settled(step, target) for target in group):
            return _as_many(step, [target for target in group if may_try(step, target)])
    return []


def _as_many(step: PlannedStep, targets: list[str]) -> list[str]:
    """Return as many targets as may be worked on at once; the rest is asked for again."""
    domain, state = step.plan.domain, step.plan.domain.state
    running = sum(
        sent.verb in WORKLOAD_VERBS and sent.state not in FINAL
        for incident in state.incidents.values()
        for sent in incident.sent
    )
    free = max(0, min(domain.rules.limits.workloads_running_max - running, budget_left(step)))
    if len(targets) > free:
        state.wake(state.live_us + AGAIN_US, "plan", step.plan.incident.incident_id)
        text = f"{len(targets) - free} more wait: {running} workloads are being recovered"
        say(domain, step.plan.incident, step.verb, Reason("wait", "tokens", text))
    return targets[:free]


def _wait(laid: Plan, what: str, reason: Reason) -> None:
    """Say why not, and ask again when time alone may change it."""
    if reason.again_us is not None:
        laid.domain.state.wake(reason.again_us, "plan", laid.incident.incident_id)
    say(laid.domain, laid.incident, what, reason)


def _page_overdue(laid: Plan, reason: Reason) -> None:
    """Call a person when a plan, or what destroys, has waited for as long as any hold may (I8)."""
    state, incident = laid.domain.state, laid.incident
    hold_max_us = round(laid.domain.rules.limits.hold_max * 1e6)
    is_paged = any(sent.verb == "page" for sent in incident.sent)
    if is_paged or reason.code in ANSWERED:
        return
    if state.live_us < incident.opened_us + hold_max_us:
        return
    text = f"{laid.root} still waits after {laid.domain.rules.limits.hold_max:g} s: {reason.text}"
    step = PlannedStep(laid, 1, "page", Step(), (laid.root,))
    _page(step, laid.root, Reason("wait", "overdue", text))


def _page_in_vain(laid: Plan, steps: list[PlannedStep]) -> None:
    """Call a person when nothing follows what was tried in vain and is still needed (I8, H18).

    Where a precondition had failed the world has moved on; it gets as long as any hold to show it.
    """
    domain, incident = laid.domain, laid.incident
    held = domain.standing.held_by(incident.incident_id)
    vain = sorted((_vain_us(laid, one), one.target, one) for one in _last_in_vain(incident, steps))
    if not vain or not any(domain.stands(key) for key in held):
        return
    due_us, _, one = vain[0]
    if due_us > domain.state.live_us:
        domain.state.wake(due_us, "plan", incident.incident_id)
        return
    text = f"{one.verb} {one.target}: {one.state}, nothing more is tried, and {laid.root} stands"
    step = PlannedStep(laid, 1, "page", Step(), (laid.root,))
    _page(step, laid.root, Reason("refuse", "in_vain", text))


def _last_in_vain(incident: IncidentState, steps: list[PlannedStep]) -> list[Sent]:
    """Return what was done last to each target, where it had no effect and is not tried again."""
    last = {one.target: one for one in incident.sent if one.verb in DESTRUCTIVE_VERBS}
    more = [step for step in steps if not _is_excluded(step)]
    left = {(step.verb, one) for step in more for one in step.targets if may_try(step, one)}
    ended = [one for one in last.values() if (one.verb, one.target) not in left]
    return [
        one
        for one in ended
        if one.state == "PREVENTED" or (one.verb in WORKLOAD_VERBS and one.state in FAILED)
    ]


def _vain_us(laid: Plan, sent: Sent) -> int:
    """Return when a person is called about an attempt that had no effect, live time."""
    patience_s = laid.domain.rules.limits.hold_max if sent.state == "PREVENTED" else 0.0
    return sent.ended_us + round(patience_s * 1e6)


# ---- sending -------------------------------------------------------------------------------


def _try(step: PlannedStep, target: str) -> None:
    """Send a step to a target, with the next method where one has failed."""
    state, incident = step.plan.domain.state, step.plan.incident
    if may_try(step, target):
        method, reason = next_method(step, target)
        due_us = next_us(step, target)
        if reason is not None and reason.verdict == "wait":
            _wait(step.plan, f"{step.verb} {target}", reason)
        elif reason is not None:
            _give_up(step, target)
        elif due_us > state.live_us:
            state.wake(due_us, "plan", incident.incident_id)
        else:
            _send(step, target, method)
    elif step.verb == "fence" and has_failed(step, target):
        _give_up(step, target)


def _send(step: PlannedStep, target: str, method: str) -> None:
    """Emit one action of a step, and say so."""
    incident, root = step.plan.incident, step.plan.root
    parameters = {k: v.replace("$root", root) for k, v in step.body.parameters.items()}
    sent = made(step, step.verb, target, method)
    sent.on_timeout = on_timeout(step, target)
    if step.verb in PLACED_VERBS and not _take_place(step, sent):
        return
    if step.verb == "notify":
        sent.vnfm = notice(step.plan.domain, target)
        parameters |= lost_cards(step.plan, target)
    if step.verb == "create_vm":
        parameters |= made_from(step.plan.domain, target)
    emit(step, sent, parameters)
    by = f" by {method}" if method else ""
    text = f"{step.verb} {target}{by}: {incident.fault[0]} of {root} ({incident.mode})"
    what = f"{step.plan.policy.name} step {step.number} {target} {sent.key}"
    say(step.plan.domain, incident, what, Reason("act", "policy", text))


def _take_place(step: PlannedStep, sent: Sent) -> bool:
    """Name where a workload is brought; one that left just before may have taken the last place."""
    found = placed(step, sent.target)
    if isinstance(found, Nowhere):
        again_us = step.plan.domain.state.live_us + AGAIN_US
        reason = Reason("wait", "place_taken", f"{sent.target} waits: {found.text}", again_us)
        _wait(step.plan, f"{step.verb} {sent.target}", reason)
        return False
    sent.placement = asdict(found)
    sent.needs += ended_with(step, sent.target)
    return True


def _tell_owners(steps: list[PlannedStep]) -> None:
    """Tell the owners of all that a plan may touch, as soon as it is made: their time runs.

    Those whom a step of the plan tells anyway are told by that one.
    """
    told = {one for step in steps if step.verb == "notify" for one in step.targets}
    for place, step in enumerate(steps):
        if step.verb not in WORKLOAD_VERBS or not _has_its_turn(step, steps[:place]):
            continue
        for target in step.targets:
            if target not in told and _is_untold(step, target):
                _send(replace(step, verb="notify", body=Step(), proofs=()), target, "")


def _is_untold(step: PlannedStep, target: str) -> bool:
    """Claim that nothing but its owner's word is waited for, and that the owner knows nothing."""
    if owner_holds(step, target) is None:
        return False
    if any(one.vnfm for one in tried(step.plan.incident, "notify", target)):
        return False
    reason = against_target(step, target)
    return reason is not None and reason.code == "owner_hold"


def _give_up(step: PlannedStep, target: str) -> None:
    """Say that a target cannot be fenced, and call a person: nothing that needs it will leave."""
    done = tried(step.plan.incident, step.verb, target)
    methods = ", ".join(sent.method or step.verb for sent in done) or "no method that there is"
    text = f"{target} cannot be fenced: {methods} gave no proof; nothing is evacuated"
    _page(step, target, Reason("refuse", "unfenceable", text))


def _page(step: PlannedStep, target: str, reason: Reason) -> None:
    """Call a person, once for each reason."""
    if say(step.plan.domain, step.plan.incident, f"page {step.verb} {target}", reason):
        emit(step, made(step, "page", target), {"reason": reason.text})


def _time_out(domain: Domain, incident: IncidentState) -> None:
    """End the wait for results that are overdue: no answer is no success."""
    for sent in incident.sent:
        is_late = sent.due_us and sent.due_us <= domain.state.live_us
        if is_late and sent.state not in FINAL and sent.verb not in TELLING:
            sent.state, sent.ended_us = "TIMED_OUT", domain.state.live_us
            text = f"{sent.verb} {sent.target}: no result in time"
            say(domain, incident, f"{sent.key} TIMED_OUT", Reason("note", "timed_out", text))


# ---- the end -------------------------------------------------------------------------------


def part(domain: Domain, incident: IncidentState, after_us: int = 0) -> None:
    """See an incident off: what it kept out is let back, and who waited for its end is asked."""
    state = domain.state
    for name, other in sorted(state.incidents.items(), key=lambda one: one[0]):
        if "group_hold" in other.said.values():
            state.wake(state.live_us, "plan", name)
    if any(sent.verb == "quarantine" for sent in incident.sent):
        state.ended[incident.incident_id] = incident
        state.wake(state.live_us + after_us, "plan", incident.incident_id)


def busy_until_us(domain: Domain, incident: IncidentState) -> int:
    """Return the live time until which an incident is not over, although all is quiet.

    What it has fenced is on its way back; where that does not go on, a person brings it back.
    """
    state = domain.state
    policy = policy_for(domain, incident.fault[0])
    fenced = [one.target for one in incident.sent if one.verb == "fence"]
    out = [target for target in fenced if target in state.fenced]
    if policy is None or not out or not any("unfence" in entry for entry in policy.do):
        return 0
    done = [one for one in incident.sent if one.verb in SETTLING or one.verb == "unfence"]
    ends = [one.ended_us or one.due_us for one in done]
    last_us = max(*ends, *(state.booted_us.get(target, 0) for target in out))
    return last_us + round(domain.rules.limits.soak * 1e6) + domain.knob_us["settle"]


def let_back(domain: Domain, incident: IncidentState) -> None:
    """Lift what an incident that is over had quarantined, unless something still speaks for it."""
    state = domain.state
    _time_out(domain, incident)
    step = PlannedStep(Plan(domain, incident, LET_BACK), 1, "unquarantine", LET_BACK_STEP, ())
    asked = [one for one in incident.sent if one.verb == "quarantine"]
    kept = [one.target for one in asked if one.state not in NEVER_KEPT_OUT]
    waits = False
    for target in dict.fromkeys(kept):
        reason = _against_lifting(replace(step, targets=(target,)), target)
        if reason is not None:
            waits = waits or reason.verdict == "wait"
            _wait(step.plan, f"unquarantine {target}", reason)
            if reason.page:
                _page(step, target, reason)
        else:
            _try(replace(step, targets=(target,)), target)
    lifting = [one for one in incident.sent if one.verb == "unquarantine"]
    is_over = all(is_settled(step, one.target) for one in lifting) or incident.mode == "dry_run"
    if is_over and not waits:
        del state.ended[incident.incident_id]


def _against_lifting(step: PlannedStep, target: str) -> Reason | None:
    """Return why a target stays in quarantine."""
    state = step.plan.domain.state
    for name, other in sorted(state.incidents.items(), key=lambda one: one[0]):
        asked = tried(other, "quarantine", target)
        if asked and asked[-1].state not in NEVER_KEPT_OUT:
            text = f"{target} stays in quarantine: incident {name} asks for it"
            return Reason("note", "quarantined_by_another", text)
    if target in state.fenced:
        text = f"{target} stays in quarantine: it is fenced, a person must bring it back"
        return Reason("refuse", "still_fenced", text, page=True)
    if has_failed(step, target):
        text = f"{target} stays in quarantine: lifting it has failed"
        return Reason("refuse", "still_quarantined", text, page=True)
    reason = against_target(step, target)
    if reason is None:
        return None
    again_us = state.live_us + step.plan.domain.knob_us["settle"]
    return replace(reason, verdict="wait", again_us=again_us)
