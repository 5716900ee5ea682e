"""What leaves and what has left: keys, messages, attempts, and taking back.

Turns a step on a target into an `Action` and remembers it as `Sent`; whether it may leave is
decided in `guards.py` and `planner.py`.
Keeps: I6 (one idempotency key per effect).
"""

from correlator.domain import Domain
from correlator.doubts import AGAIN_US, ends_root, must_wait, worked_on
from correlator.evidence import accusations, event_ids, is_silent, sources, standing
from correlator.plans import FINAL, TELLING, Plan, PlannedStep, Reason, attempts
from correlator.state import IncidentState, Sent
from correlator.targets import most_often
from schemas.base import digest, from_microseconds, kind_of
from schemas.outputs import (
    DESTRUCTIVE_VERBS,
    WORKLOAD_VERBS,
    Action,
    Blast,
    Decision,
    Notice,
    Placement,
    Precondition,
    ReplyTo,
)
from schemas.rules import Step

LATE_US = 1_000_000
"""Grace past the validity of an action before its result is no longer waited for."""
KEEPING_OUT = frozenset({"quarantine", "unquarantine"})
"""Verbs that each incident asks for by itself."""
REVOKE_US = 60_000_000
"""How long a revocation is worth delivering: as long as an action may wait by default."""


def key_of(step: PlannedStep, verb: str, target: str, attempt: int) -> str:
    """Return the idempotency key of an attempt: what has one key has one effect.

    Each update is told anew; each incident asks for a quarantine of its own, and lifts that.
    """
    state, incident = step.plan.domain.state, step.plan.incident
    own: tuple[str | int, ...] = (incident.incident_id, incident.update) if verb in TELLING else ()
    own = (incident.incident_id,) if verb in KEEPING_OUT else own
    generation = state.generations.get(target, 0)
    return digest(state.domain, verb, target, generation, incident.mode, attempt, *own)


def made(step: PlannedStep, verb: str, target: str, method: str = "") -> Sent:
    """Return an attempt as it would leave now."""
    state, incident = step.plan.domain.state, step.plan.incident
    before = attempts(incident, verb, target)
    due_us = state.live_us + round(step.body.timeout * 1e6) + LATE_US
    key = key_of(step, verb, target, len(before))
    sent = Sent(key, verb, target, step.number, state.live_us, method=method, due_us=due_us)
    sent.attempt = len(before)
    sent.supersedes = before[-1].key if before and verb not in TELLING else ""
    sent.generation = state.generations.get(target, 0)
    sent.boot_id = state.boots.get(target, "")
    sent.policy = step.plan.policy.name
    sent.left_us = state.log_us
    sent.expires_us = state.log_us + round(step.body.timeout * 1e6)
    sent.needs = [key for key, _ in step.proofs] if verb == step.verb else []
    sent.source = _source(step, target, sent.needs) if verb in WORKLOAD_VERBS else ""
    sent.evidence = event_ids(step)
    return sent


def _source(step: PlannedStep, vm: str, needs: list[str]) -> str:
    """Return the host that a workload is taken from: the one that was fenced for it, else its own.

    The graph may already say where it was to go.
    """
    fenced = [one.target for one in step.plan.incident.sent if one.key in needs]
    near = [*fenced, *sorted(step.plan.domain.state.topology.dependencies(vm))]
    return next((one for one in near if kind_of(one) == "host"), "")


def emit(step: PlannedStep, sent: Sent, parameters: dict[str, str]) -> None:
    """Let an attempt leave, and remember it."""
    domain, incident, policy = step.plan.domain, step.plan.incident, step.plan.policy
    state = domain.state
    place = f"{sent.verb} {sent.target}"
    most = most_often(domain, sent.verb)
    if most is not None and not (sent.verb == "fence" and sent.supersedes):
        state.count_begun(place, round(most.per * 1e6))
    incident.attempts.setdefault(place, []).append(len(incident.sent))
    incident.sent.append(sent)
    if sent.verb in DESTRUCTIVE_VERBS:
        sent.token = state.fence_tokens[sent.target] = state.fence_tokens.get(sent.target, 0) + 1
    state.wake(sent.due_us, "plan", incident.incident_id)
    state.count_action(policy.name, domain.budget_us)
    if sent.verb == "fence" and sent.target != step.plan.root:
        state.count_root(sent.target)  # It counts as one of the fleet.
    sent.parameters, sent.epoch = parameters, state.epoch
    domain.out.append(_action(domain, incident, sent))


def send_again(domain: Domain) -> None:
    """Emit what is still waited for and has not left under the present epoch.

    The idempotency keys are the old ones: what was done already is answered, not done twice. What
    destroys may never have left before, so it waits for the domain like any other (I4).
    """
    state = domain.state
    known = sorted({**state.ended, **state.incidents}.items(), key=lambda one: one[0])
    for incident, sent in [(one, sent) for _, one in known for sent in one.sent]:
        if sent.epoch == state.epoch or sent.state in FINAL or sent.due_us <= state.live_us:
            continue
        if sent.verb in DESTRUCTIVE_VERBS and not _may_leave_again(domain, incident, sent):
            state.wake(state.live_us + AGAIN_US, "again")
        else:
            sent.epoch = state.epoch
            domain.out.append(_action(domain, incident, sent))


def _may_leave_again(domain: Domain, incident: IncidentState, sent: Sent) -> bool:
    """Claim that what was decided may leave now, though the world has moved on since (I3, I4).

    A host that has come back is not ended after all, and nothing is brought to one that is worked
    on by now.
    """
    to = sent.placement.get("destination")
    if must_wait(domain, sent.target) or (to and worked_on(domain, str(to))):
        return False
    policy = next((one for one in domain.rules.policies if one.name == sent.policy), None)
    if sent.verb != "fence" or policy is None:
        return True
    plan = Plan(domain, incident, policy)
    step = PlannedStep(plan, sent.step, "fence", Step(), (sent.target,))
    if not ends_root(step):
        return bool(standing(step))
    told, limits = accusations(step), domain.rules.limits
    return len(sources(told)) >= limits.sources_min and is_silent(told, limits)


def _preconditions(domain: Domain, sent: Sent) -> list[Precondition]:
    """Return what an actuator checks again before it acts: the world may have moved on."""
    if sent.verb not in DESTRUCTIVE_VERBS:
        return []
    facts = []
    if sent.verb != "live_migrate":  # A session's own host is emptied by it.
        facts.append(("maintenance", sent.target, "no"))
    if sent.boot_id:
        facts.append(("boot_id", sent.target, sent.boot_id))
    every = [*domain.state.ended.values(), *domain.state.incidents.values()]
    fences = (one for other in every for one in other.sent if one.verb == "fence")
    needed = {one.key: one for one in fences if one.key in sent.needs}.values()
    facts += [("fence", one.target, "CONFIRMED") for one in needed]
    if sent.verb in WORKLOAD_VERBS:
        facts.append(("vm_desired", sent.target, "ACTIVE"))
    if sent.source and sent.verb != "create_vm":
        facts.append(("vm_host", sent.target, sent.source))
    if sent.source and sent.verb == "evacuate_vm":
        # What would start the old copy when its host returns (H16).
        facts += [(fact, sent.source, "off") for fact in ("autostart", "power_restore")]
    return [
        Precondition.model_validate({"fact": fact, "target": target, "equals": equals})
        for fact, target, equals in facts
    ]


def _blast(domain: Domain, target: str) -> Blast:
    """Return what an action touches if it is wrong: its target, and the VMs that stand on it."""
    topology = domain.state.topology
    every = topology.kind_counts.get("vm", 0)
    vms = {one for one in (target, *topology.down.get(target, ())) if kind_of(one) == "vm"}
    share = round(min(1.0, len(vms) / every), 6) if every else 0.0
    return Blast(hosts=int(kind_of(target) == "host"), vms=len(vms), share=share)


def _action(domain: Domain, incident: IncidentState, sent: Sent) -> Action:
    """Return the message of an attempt under the present epoch."""
    state = domain.state
    epoch = state.epoch or 0
    return Action(
        action_id=digest(sent.key, epoch),
        idempotency_key=sent.key,
        supersedes=sent.supersedes,
        trace_id=incident.incident_id,
        reply_to=ReplyTo(key=state.domain),
        verb=sent.verb,  # type: ignore[arg-type]
        target=sent.target,
        target_generation=sent.generation,
        domain=state.domain,
        epoch=epoch,
        fence_token=sent.token,
        incident_id=incident.incident_id,
        cause=f"{incident.fault[0]} of {incident.fault[1]}",
        confidence=incident.confidence,
        evidence=sent.evidence,
        blast=_blast(domain, sent.target),
        policy=sent.policy,
        step=sent.step,
        mode=incident.mode,  # type: ignore[arg-type]
        needs=sent.needs,
        preconditions=_preconditions(domain, sent),
        method=sent.method,
        attempt=sent.attempt,
        parameters=sent.parameters,
        not_before=from_microseconds(sent.left_us),
        expires_at=from_microseconds(sent.expires_us),
        max_runtime_s=(sent.expires_us - sent.left_us) / 1e6,
        on_timeout=sent.on_timeout,  # type: ignore[arg-type]
        placement=Placement.model_validate(sent.placement) if sent.placement else None,
        vnfm=Notice.model_validate(sent.vnfm) if sent.vnfm else None,
    )


def revoke(domain: Domain, incident: IncidentState) -> None:
    """Take back what was sent for a cause that is no longer believed."""
    for sent in incident.sent:
        if sent.verb not in TELLING and sent.state not in FINAL:
            recall(domain, incident, sent, "verdict_changed")
    incident.said.clear()


def recall(domain: Domain, incident: IncidentState, sent: Sent, why: str) -> None:
    """Take back one action whose result is still waited for."""
    state = domain.state
    sent.state, sent.ended_us = "REVOKED", state.live_us
    key = digest(state.domain, "revoke", sent.key)
    word = Sent(key, "revoke", sent.target, sent.step, state.live_us)
    word.generation, word.boot_id = sent.generation, sent.boot_id
    word.policy, word.left_us = why, state.log_us
    word.expires_us = state.log_us + REVOKE_US
    word.supersedes = sent.key
    word.parameters = {"revokes": sent.key, "verb": sent.verb}
    domain.out.append(_action(domain, incident, word))


def say(domain: Domain, incident: IncidentState, what: str, reason: Reason) -> bool:
    """Say a decision unless it is what was said of this last; return whether it was said."""
    if incident.said.get(what) == reason.code:
        return False
    incident.said[what] = reason.code
    domain.out.append(
        Decision(
            entity=incident.fault[1],
            verdict=reason.verdict,  # type: ignore[arg-type]
            reason=reason.code,
            text=reason.text,
            incident_id=incident.incident_id,
            policy=what or None,
            decided_at=from_microseconds(domain.state.log_us),
        )
    )
    return True
