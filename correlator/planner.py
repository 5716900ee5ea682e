"""From a cause to steps: guards first, harmless steps at once, destructive ones only with proof.

Reads one domain and one incident; what it decides leaves as `Decision`s and `Action`s.
Keeps: I1 (no step that needs a fence before the fence of that very generation is CONFIRMED), I3
(no destructive step on one source), I4 (none in a gap, a hold or maintenance), I6 (one
idempotency key per effect).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from correlator.domain import Domain
from correlator.rules.conditions import parse_structure
from correlator.rules.paths import parse_path, walk
from correlator.state import IncidentState, Sent
from schemas.base import digest, from_microseconds, kind_of
from schemas.inputs import Result
from schemas.outputs import DESTRUCTIVE_VERBS, Action, Decision, Verb
from schemas.rules import Policy, Step

FINAL = frozenset({"CONFIRMED", "FAILED", "TIMED_OUT", "REJECTED", "UNKNOWN", "REVOKED"})
TELLING = frozenset({"notify", "page"})
"""Verbs whose every update is an effect of its own, and which nothing takes back."""
SOURCES_MIN = 2
"""Independent sources a destructive step needs."""
REVOKE_US = 60_000_000
"""How long a revocation is worth delivering: as long as an action may wait by default."""
Refusal = tuple[str, str, str]
"""(verdict, reason, sentence)."""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of a policy for one root."""

    policy: Policy
    number: int
    verb: Verb
    body: Step
    targets: tuple[str, ...]


def plan(domain: Domain, incident: IncidentState) -> None:
    """Decide what to do about an incident now; say each reason once."""
    policy = policy_for(domain, incident.fault[0])
    if policy is None:
        text = f"no policy speaks of {incident.fault[0]}"
        _say(domain, incident, "", ("note", "no_policy", text))
        return
    refusal = next(_refusals(domain, incident, policy), None)
    if refusal is not None:
        _say(domain, incident, policy.name, refusal)
        return
    steps = _steps(domain, policy, incident.fault[1])
    for step in steps:
        proofs = _proofs(domain, incident, step, steps)
        refusal = next(_step_refusals(domain, incident, step, proofs), None)
        if refusal is not None:
            _say(domain, incident, f"{policy.name} step {step.number}", refusal)
            return
        _send(domain, incident, step, [key for key, _ in proofs])


def policy_for(domain: Domain, signature: str) -> Policy | None:
    """Return the policy that names a signature, else the one for all, else None."""
    named = (p for p in domain.rules.policies if signature in p.cause)
    general = (p for p in domain.rules.policies if "*" in p.cause)
    return next(named, None) or next(general, None)


def _steps(domain: Domain, policy: Policy, root: str) -> list[PlannedStep]:
    written = [(verb, body or Step()) for entry in policy.do for verb, body in entry.items()]
    return [
        PlannedStep(policy, number, verb, body, _targets(domain, root, body.target))
        for number, (verb, body) in enumerate(written, start=1)
    ]


def _targets(domain: Domain, root: str, target: str) -> tuple[str, ...]:
    path = target.removeprefix("$root").removeprefix(".")
    return walk(domain.state.topology, root, parse_path(path)) if path else (root,)


# ---- guards --------------------------------------------------------------------------------


def _refusals(domain: Domain, incident: IncidentState, policy: Policy) -> Iterator[Refusal]:
    state = domain.state
    root = incident.fault[1]
    if incident.confidence < policy.confidence_min:
        text = f"{root}: confidence {incident.confidence:.3f} is below {policy.confidence_min}"
        yield "wait", "confidence_below_policy", text
    if root in state.sessions:
        yield "refuse", "maintenance", f"{root} is under maintenance by {state.sessions[root].by}"
    for text in policy.guard.only_if:
        if not parse_structure(text).holds(state.topology, root):
            yield "refuse", "guard_only_if", f"{root}: {text} does not hold"
    yield from _crowds(domain, policy)


def _crowds(domain: Domain, policy: Policy) -> Iterator[Refusal]:
    state = domain.state
    stop = policy.guard.stop_if
    if stop is not None:
        since_us = state.live_us - round(stop.within * 1e6)
        roots = {root for at_us, root in state.roots_us if at_us >= since_us}
        hit = sum(kind_of(root) == stop.roots for root in roots)
        all_of_kind = state.topology.kind_counts.get(stop.roots, 0)
        if hit > stop.share * all_of_kind:
            text = f"{hit} of {all_of_kind} {stop.roots} entities are roots"
            yield "refuse", "guard_stop_if", f"{text}: it is us, or what they share"
    budget = policy.guard.max
    if budget is not None:
        since_us = state.live_us - round(budget.per * 1e6)
        recent = [at for at in state.actions_us.get(policy.name, []) if at >= since_us]
        state.actions_us[policy.name] = recent
        if len(recent) >= budget.actions:
            yield "refuse", "guard_max", f"{len(recent)} actions in {budget.per:g} s are the budget"


def _proofs(
    domain: Domain, incident: IncidentState, step: PlannedStep, steps: list[PlannedStep]
) -> list[tuple[str, str]]:
    """Return (idempotency key, state) of each action a step needs, for this root as it is now."""
    needed = step.body.needs.split(".")[0] if step.body.needs else None
    states = {sent.key: sent.state for sent in incident.sent}
    keys = [
        _key(domain, incident, other.verb, target)
        for other in steps
        if other.verb == needed and other.number < step.number
        for target in other.targets
    ]
    return [(key, states.get(key, "not sent")) for key in keys]


def _step_refusals(
    domain: Domain, incident: IncidentState, step: PlannedStep, proofs: list[tuple[str, str]]
) -> Iterator[Refusal]:
    states = sorted({state for _, state in proofs})
    if step.body.needs and states != ["CONFIRMED"]:
        found = ", ".join(states) or "nothing to confirm"
        yield "wait", "needs_proof", f"{step.verb} waits for {step.body.needs} ({found})"
    if step.verb in DESTRUCTIVE_VERBS:
        yield from _dangers(domain, incident, step.verb)
        yield from _too_young(domain, incident, step)


def _dangers(domain: Domain, incident: IncidentState, verb: str) -> Iterator[Refusal]:
    state = domain.state
    if incident.state != "open":
        yield "refuse", "only_suspected", f"{verb} needs a named cause, this one is suspected"
    if state.hold is not None:
        yield "wait", "domain_hold", f"{verb} waits: the domain is held ({state.hold})"
    if state.live_us < state.gap_until_us:
        state.wake(state.gap_until_us, "plan", incident.incident_id)
        yield "wait", "stream_gap", f"{verb} waits: the log has just had a gap"
    held = [state.sightings[key] for key in domain.standing.held_by(incident.incident_id)]
    sources = {name for one in held if one.cleared_us is None for name in one.witnesses}
    if len(sources) < SOURCES_MIN:
        yield "wait", "one_witness", f"{verb} needs {SOURCES_MIN} sources, there is {len(sources)}"


def _too_young(domain: Domain, incident: IncidentState, step: PlannedStep) -> Iterator[Refusal]:
    """Harmless steps never wait for what only destructive ones need."""
    state = domain.state
    hold_us = round(step.policy.hold * 1e6)
    if state.live_us - incident.since_us < hold_us:
        state.wake(incident.since_us + hold_us, "plan", incident.incident_id)
        root = incident.fault[1]
        yield "wait", "hold", f"{root} must stay the best explanation for {step.policy.hold:g} s"


# ---- actions -------------------------------------------------------------------------------


def _key(domain: Domain, incident: IncidentState, verb: str, target: str) -> str:
    state = domain.state
    told = (incident.incident_id, incident.update) if verb in TELLING else ()
    generation = state.generations.get(target, 0)
    return digest(state.domain, verb, target, generation, incident.mode, 0, *told)


def _send(domain: Domain, incident: IncidentState, step: PlannedStep, needs: list[str]) -> None:
    """Emit a step's actions that have not left yet."""
    state = domain.state
    root = incident.fault[1]
    name = step.policy.name
    parameters = {k: v.replace("$root", root) for k, v in step.body.parameters.items()}
    for target in step.targets:
        if any(sent.verb == step.verb and sent.target == target for sent in incident.sent):
            continue
        key = _key(domain, incident, step.verb, target)
        sent = Sent(key, step.verb, target, step.number, state.live_us)
        incident.sent.append(sent)
        state.actions_us.setdefault(name, []).append(state.live_us)
        action = _action(domain, incident, sent, name, round(step.body.timeout * 1e6))
        domain.out.append(action.model_copy(update={"needs": needs, "parameters": parameters}))
        text = f"{step.verb} {target}: {incident.fault[0]} of {root} ({incident.mode})"
        _say(domain, incident, f"{name} step {step.number} {target}", ("act", "policy", text))


def _action(
    domain: Domain, incident: IncidentState, sent: Sent, policy: str, valid_us: int
) -> Action:
    state = domain.state
    return Action(
        action_id=digest(sent.key, state.epoch or 0),
        idempotency_key=sent.key,
        verb=sent.verb,  # type: ignore[arg-type]
        target=sent.target,
        target_generation=state.generations.get(sent.target, 0),
        domain=state.domain,
        epoch=state.epoch or 0,
        incident_id=incident.incident_id,
        policy=policy,
        step=sent.step,
        mode=incident.mode,  # type: ignore[arg-type]
        expires_at=from_microseconds(state.log_us + valid_us),
    )


def revoke(domain: Domain, incident: IncidentState) -> None:
    """Take back what was sent for a cause that is no longer believed."""
    state = domain.state
    for sent in incident.sent:
        if sent.verb in TELLING or sent.state in FINAL:
            continue
        sent.state = "REVOKED"
        key = digest(state.domain, "revoke", sent.key)
        recall = Sent(key, "revoke", sent.target, sent.step, state.live_us)
        action = _action(domain, incident, recall, "verdict_changed", REVOKE_US)
        parameters = {"revokes": sent.key, "verb": sent.verb}
        domain.out.append(action.model_copy(update={"parameters": parameters}))
    incident.said.clear()


def take_result(domain: Domain, result: Result) -> None:
    """Note what came of an action; the steps that waited for it may now leave."""
    state = domain.state
    found = False
    for incident in [state.incidents[name] for name in sorted(state.incidents)]:
        for sent in list(incident.sent):
            if sent.key == result.idempotency_key and sent.state not in FINAL:
                found = True
                _note_result(domain, incident, sent, result)
    if not found:
        state.count("results_unknown")


def _note_result(domain: Domain, incident: IncidentState, sent: Sent, result: Result) -> None:
    if incident.mode == "dry_run":
        text = f"{sent.verb} {sent.target}: a dry run proves nothing"
        _say(domain, incident, sent.key, ("refuse", "dry_run_result", text))
        return
    sent.state = result.state
    text = f"{sent.verb} {sent.target}: {result.state} by {result.actuator}"
    _say(domain, incident, f"{sent.key} {result.state}", ("note", "result", text))
    if sent.verb == "unfence" and result.state == "CONFIRMED":
        domain.state.next_generation(sent.target)
    plan(domain, incident)


def _say(domain: Domain, incident: IncidentState, what: str, refusal: Refusal) -> None:
    verdict, reason, text = refusal
    if incident.said.get(what) == reason:
        return
    incident.said[what] = reason
    domain.out.append(
        Decision(
            entity=incident.fault[1],
            verdict=verdict,  # type: ignore[arg-type]
            reason=reason,
            text=text,
            incident_id=incident.incident_id,
            policy=what or None,
            decided_at=from_microseconds(domain.state.log_us),
        )
    )
