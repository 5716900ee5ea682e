"""From a cause to steps: guards first, harmless steps at once, destructive ones only with proof.

Reads one domain and one incident; what it decides leaves as `Decision`s and `Action`s. The
reasons against a step are in `guards.py`. A step whose method fails is tried with its next one;
when all have failed a person is paged, and nothing that needed it ever leaves.
Keeps: I6 (one idempotency key per effect); with the guards I1, I3 and I4.
"""

from dataclasses import replace

from correlator.domain import Domain
from correlator.guards import (
    AGAIN_US,
    FINAL,
    TELLING,
    Plan,
    PlannedStep,
    Reason,
    against_plan,
    against_step,
    against_target,
)
from correlator.rules.paths import parse_path, walk
from correlator.rules.settings import effective
from correlator.state import IncidentState, Sent
from schemas.base import digest, from_microseconds
from schemas.inputs import Result
from schemas.outputs import DESTRUCTIVE_VERBS, WORKLOAD_VERBS, Action, Decision, Precondition
from schemas.rules import Policy, Step

FAILED = frozenset({"FAILED", "TIMED_OUT", "REJECTED", "UNKNOWN"})
"""An attempt that ended without its effect being proven: the next method has its turn."""
KNOWN = frozenset({"FAILED"})
"""An attempt of which the actuator itself says that it had no effect."""
WORKLOAD_TRIES = 3
"""Attempts to bring a workload elsewhere (failure matrix d5)."""
FENCE_PROOFS = {
    "bmc_off": frozenset({"OFF"}),
    "pdu_off": frozenset({"OFF"}),
    "storage_blocklist": frozenset({"BLOCKED"}),
    "tor_port_down": frozenset({"DOWN"}),
    "watchdog_bound": frozenset({"ELAPSED"}),
    "kdump": frozenset({"DUMPING"}),
}
"""method → what must have been observed after it: a return code proves nothing (H12, H13)."""
RENEWING = frozenset({"unfence", "failover_vnf"})
"""Verbs after which the target is another one: the next of its kind is no duplicate."""
LATE_US = 1_000_000
"""Grace past the validity of an action before its result is no longer waited for."""
WORKLOADS_MAX = 20
"""Workloads of a domain being recovered at the same time (failure matrix d5)."""
REVOKE_US = 60_000_000
"""How long a revocation is worth delivering: as long as an action may wait by default."""


def plan(domain: Domain, incident: IncidentState) -> None:
    """Decide what to do about an incident now; say each reason once."""
    policy = policy_for(domain, incident.fault[0])
    if policy is None:
        text = f"no policy speaks of {incident.fault[0]}"
        _say(domain, incident, "", Reason("note", "no_policy", text))
        return
    _time_out(domain, incident)
    laid = Plan(domain, incident, policy)
    reason = against_plan(laid)
    if reason is not None:
        _wait(laid, policy.name, reason)
        return
    steps = _steps(laid)
    for step in steps:
        ready = replace(step, proofs=_proofs(step, steps), targets=_allowed(step))
        reason = against_step(ready) if _is_unfinished(ready) else None
        if reason is not None:
            _wait(laid, f"{policy.name} step {step.number}", reason)
            if reason.page:
                _page(ready, laid.root, reason)
            return
        for target in _in_turn(ready):
            _try(ready, target)


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


def _allowed(step: PlannedStep) -> tuple[str, ...]:
    """Return the targets that nothing speaks against; say what speaks against the others."""
    allowed = []
    for target in step.targets:
        reason = against_target(step, target)
        if reason is None:
            allowed.append(target)
        else:
            _say(step.plan.domain, step.plan.incident, f"{step.verb} {target}", reason)
    return tuple(allowed)


def _in_turn(step: PlannedStep) -> list[str]:
    """Return the targets whose turn it is: workloads by priority, one group after the other."""
    if step.verb not in WORKLOAD_VERBS:
        return list(step.targets)
    domain, incident = step.plan.domain, step.plan.incident
    groups: dict[int, list[str]] = {}
    for target in step.targets:
        turn = effective(domain.rules.settings, target).priority
        groups.setdefault(turn, []).append(target)
    for _, group in sorted(groups.items()):
        tried = {target: _tried(incident, step.verb, target) for target in group}
        open_ = [target for target in group if not _is_settled(step, tried[target])]
        if open_:
            return _as_many(step, [one for one in open_ if _may_try(step, tried[one])])
    return []


def _is_settled(step: PlannedStep, attempts: list[Sent]) -> bool:
    """Claim that nothing more will be tried of a workload."""
    if not attempts or attempts[-1].state not in FINAL:
        return False
    tries = _tries(step) * (1 + step.plan.incident.retries)
    return attempts[-1].state not in KNOWN or len(attempts) >= tries


def _as_many(step: PlannedStep, targets: list[str]) -> list[str]:
    """Return as many targets as may be worked on at once; the rest is asked for again."""
    domain, state = step.plan.domain, step.plan.domain.state
    running = sum(
        sent.verb in WORKLOAD_VERBS and sent.state not in FINAL
        for incident in state.incidents.values()
        for sent in incident.sent
    )
    free = max(0, WORKLOADS_MAX - running)
    if len(targets) > free:
        state.wake(state.live_us + AGAIN_US, "plan", step.plan.incident.incident_id)
        text = f"{len(targets) - free} more wait: {running} workloads are being recovered"
        _say(domain, step.plan.incident, step.verb, Reason("wait", "tokens", text))
    return targets[:free]


def _wait(laid: Plan, what: str, reason: Reason) -> None:
    """Say why not, and ask again when time alone may change it."""
    if reason.again_us is not None:
        laid.domain.state.wake(reason.again_us, "plan", laid.incident.incident_id)
    _say(laid.domain, laid.incident, what, reason)


# ---- attempts ------------------------------------------------------------------------------


def _attempts(incident: IncidentState, verb: str, target: str) -> list[Sent]:
    places = incident.attempts.get(f"{verb} {target}", ())
    return [incident.sent[place] for place in places]


def _tried(incident: IncidentState, verb: str, target: str) -> list[Sent]:
    """Return the attempts that were not taken back."""
    return [sent for sent in _attempts(incident, verb, target) if sent.state != "REVOKED"]


def _is_unfinished(step: PlannedStep) -> bool:
    """Claim that some target of a step has not been tried, or may be tried otherwise."""
    incident = step.plan.incident
    tried = [_tried(incident, step.verb, target) for target in step.targets]
    return not all(attempts and attempts[-1].state not in FAILED for attempts in tried)


def _try(step: PlannedStep, target: str) -> None:
    """Send a step to a target, with the next method where one has failed."""
    attempts = _tried(step.plan.incident, step.verb, target)
    if not _may_try(step, attempts):
        return
    methods: list[str] = [*step.body.methods] or [""] * _tries(step)
    if len(attempts) < len(methods) * (1 + step.plan.incident.retries):
        _send(step, target, methods[len(attempts) % len(methods)])
    elif step.verb == "fence":
        _give_up(step, target, attempts)


def _tries(step: PlannedStep) -> int:
    return WORKLOAD_TRIES if step.verb in WORKLOAD_VERBS else 1


def _may_try(step: PlannedStep, attempts: list[Sent]) -> bool:
    """Claim that nothing was tried, or that what was tried has ended without its effect.

    Of a workload it must be known to have failed: a start that may be under way is no failure.
    """
    if not attempts:
        return True
    return attempts[-1].state in (KNOWN if step.verb in WORKLOAD_VERBS else FAILED)


def _give_up(step: PlannedStep, target: str, attempts: list[Sent]) -> None:
    """Say that a target cannot be fenced, and call a person: nothing that needs it will leave."""
    tried = ", ".join(sent.method or step.verb for sent in attempts)
    text = f"{target} cannot be fenced: {tried} gave no proof; nothing is evacuated"
    _page(step, target, Reason("refuse", "unfenceable", text))


def _page(step: PlannedStep, target: str, reason: Reason) -> None:
    """Call a person, once for each reason."""
    if _say(step.plan.domain, step.plan.incident, f"page {step.verb} {target}", reason):
        _emit(step, _sent(step, "page", target), {"reason": reason.text})


def _proofs(step: PlannedStep, steps: list[PlannedStep]) -> tuple[tuple[str, str], ...]:
    """Return (idempotency key, state) of what a step needs, for each root as it is now."""
    if not step.body.needs:
        return ()
    needed = step.body.needs.split(".")[0]
    earlier = [one for one in steps if one.verb == needed and one.number < step.number]
    return tuple(_best_proof(one, target) for one in earlier for target in one.targets)


def _best_proof(step: PlannedStep, target: str) -> tuple[str, str]:
    """Return the attempt of this generation that is CONFIRMED, else the last one."""
    incident = step.plan.incident
    attempts = _attempts(incident, step.verb, target)
    keys = [_key(step, step.verb, target, number) for number in range(len(attempts))]
    now = [sent for sent, key in zip(attempts, keys, strict=True) if sent.key == key]
    confirmed = [sent for sent in now if sent.state == "CONFIRMED"]
    if confirmed or now:
        best = (confirmed or now)[-1]
        return best.key, best.state
    return _key(step, step.verb, target, 0), "not sent"


# ---- actions -------------------------------------------------------------------------------


def _key(step: PlannedStep, verb: str, target: str, attempt: int) -> str:
    state, incident = step.plan.domain.state, step.plan.incident
    told = (incident.incident_id, incident.update) if verb in TELLING else ()
    generation = state.generations.get(target, 0)
    return digest(state.domain, verb, target, generation, incident.mode, attempt, *told)


def _sent(step: PlannedStep, verb: str, target: str, method: str = "") -> Sent:
    state = step.plan.domain.state
    attempt = len(_attempts(step.plan.incident, verb, target)) if verb not in TELLING else 0
    due_us = state.live_us + round(step.body.timeout * 1e6) + LATE_US
    key = _key(step, verb, target, attempt)
    sent = Sent(key, verb, target, step.number, state.live_us, method=method, due_us=due_us)
    sent.attempt = attempt
    sent.generation = state.generations.get(target, 0)
    sent.boot_id = state.boots.get(target, "")
    return sent


def _send(step: PlannedStep, target: str, method: str) -> None:
    """Emit one action of a step, and say so."""
    incident, root = step.plan.incident, step.plan.root
    parameters = {k: v.replace("$root", root) for k, v in step.body.parameters.items()}
    sent = _sent(step, step.verb, target, method)
    _emit(step, sent, parameters)
    by = f" by {method}" if method else ""
    text = f"{step.verb} {target}{by}: {incident.fault[0]} of {root} ({incident.mode})"
    what = f"{step.plan.policy.name} step {step.number} {target} {sent.key}"
    _say(step.plan.domain, incident, what, Reason("act", "policy", text))


def _emit(step: PlannedStep, sent: Sent, parameters: dict[str, str]) -> None:
    domain, incident, policy = step.plan.domain, step.plan.incident, step.plan.policy
    state = domain.state
    place = f"{sent.verb} {sent.target}"
    incident.attempts.setdefault(place, []).append(len(incident.sent))
    incident.sent.append(sent)
    if sent.verb in DESTRUCTIVE_VERBS:
        sent.token = state.fence_tokens[sent.target] = state.fence_tokens.get(sent.target, 0) + 1
    state.wake(sent.due_us, "plan", incident.incident_id)
    state.actions_us.setdefault(policy.name, []).append(state.live_us)
    if sent.verb == "fence" and sent.target != step.plan.root:
        state.roots_us.append((state.live_us, sent.target))  # It counts as one of the fleet.
    sent.policy = policy.name
    sent.expires_us = state.log_us + round(step.body.timeout * 1e6)
    sent.parameters = parameters
    sent.needs = [key for key, _ in step.proofs] if sent.verb == step.verb else []
    domain.out.append(_action(domain, incident, sent))


def send_again(domain: Domain) -> None:
    """Emit every action whose result is still waited for under the present epoch.

    The idempotency keys are the old ones: what was done already is answered, not done twice.
    """
    state = domain.state
    for _, incident in sorted(state.incidents.items(), key=lambda one: one[0]):
        for sent in incident.sent:
            if sent.state not in FINAL and sent.due_us > state.live_us:
                domain.out.append(_action(domain, incident, sent))


def _preconditions(incident: IncidentState, sent: Sent) -> list[Precondition]:
    """Return what an actuator checks again before it acts: the world may have moved on."""
    if sent.verb not in DESTRUCTIVE_VERBS:
        return []
    checks = [Precondition(fact="maintenance", target=sent.target, equals="no")]
    if sent.boot_id:
        checks.append(Precondition(fact="boot_id", target=sent.target, equals=sent.boot_id))
    needed = (one for one in incident.sent if one.verb == "fence" and one.key in sent.needs)
    checks += (Precondition(fact="fence", target=one.target, equals="CONFIRMED") for one in needed)
    return checks


def _action(domain: Domain, incident: IncidentState, sent: Sent) -> Action:
    """Return the message of an attempt under the present epoch."""
    state = domain.state
    epoch = state.epoch or 0
    return Action(
        action_id=digest(sent.key, epoch),
        idempotency_key=sent.key,
        verb=sent.verb,  # type: ignore[arg-type]
        target=sent.target,
        target_generation=sent.generation,
        domain=state.domain,
        epoch=epoch,
        fence_token=sent.token,
        incident_id=incident.incident_id,
        cause=f"{incident.fault[0]} of {incident.fault[1]}",
        confidence=incident.confidence,
        policy=sent.policy,
        step=sent.step,
        mode=incident.mode,  # type: ignore[arg-type]
        needs=sent.needs,
        preconditions=_preconditions(incident, sent),
        method=sent.method,
        attempt=sent.attempt,
        parameters=sent.parameters,
        expires_at=from_microseconds(sent.expires_us),
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
        recall.generation, recall.boot_id = sent.generation, sent.boot_id
        recall.policy, recall.expires_us = "verdict_changed", state.log_us + REVOKE_US
        recall.parameters = {"revokes": sent.key, "verb": sent.verb}
        domain.out.append(_action(domain, incident, recall))
    incident.said.clear()


# ---- results -------------------------------------------------------------------------------


def take_result(domain: Domain, result: Result) -> None:
    """Note what came of an action; the steps that waited for it may now leave."""
    state = domain.state
    found = False
    for incident in [state.incidents[name] for name in sorted(state.incidents)]:
        for sent in list(incident.sent):
            is_of_it = sent.key == result.idempotency_key and result.verb in ("", sent.verb)
            if is_of_it and sent.state not in FINAL:
                found = True
                _note_result(domain, incident, sent, result)
    if not found:
        state.count("results_unknown")


def _note_result(domain: Domain, incident: IncidentState, sent: Sent, result: Result) -> None:
    if incident.mode == "dry_run":
        text = f"{sent.verb} {sent.target}: a dry run proves nothing"
        _say(domain, incident, sent.key, Reason("refuse", "dry_run_result", text))
        return
    sent.state = result.state
    text = f"{sent.verb} {sent.target}: {result.state} by {result.actuator}"
    reason = Reason("note", "result", text)
    if result.state == "CONFIRMED" and sent.verb == "fence" and not _is_proven(result):
        sent.state = "UNKNOWN"
        text = f"fence {sent.target}: CONFIRMED by {result.actuator} without what was observed"
        reason = Reason("refuse", "no_proof", text)
    if result.state == "REJECTED" and "precondition" in result.proof:
        sent.state = "PREVENTED"  # The world has moved on: another method is no answer to that.
        text = f"{sent.verb} {sent.target}: {result.proof['precondition']} no longer holds"
        reason = Reason("refuse", "precondition_failed", text)
    _say(domain, incident, f"{sent.key} {result.state}", reason)
    if sent.verb in RENEWING and sent.state == "CONFIRMED":
        domain.state.next_generation(sent.target)
    plan(domain, incident)


def _is_proven(result: Result) -> bool:
    """Claim that a fence was observed to have worked, by a method that can be observed."""
    expected = FENCE_PROOFS.get(str(result.proof.get("method", "")), frozenset())
    return str(result.proof.get("observed_state", "")) in expected


def _time_out(domain: Domain, incident: IncidentState) -> None:
    """End the wait for results that are overdue: no answer is no success."""
    for sent in incident.sent:
        is_late = sent.due_us and sent.due_us <= domain.state.live_us
        if is_late and sent.state not in FINAL and sent.verb not in TELLING:
            sent.state = "TIMED_OUT"
            text = f"{sent.verb} {sent.target}: no result in time"
            _say(domain, incident, f"{sent.key} TIMED_OUT", Reason("note", "timed_out", text))


def _say(domain: Domain, incident: IncidentState, what: str, reason: Reason) -> bool:
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
