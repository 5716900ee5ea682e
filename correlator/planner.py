"""From a cause to steps: guards first, harmless steps at once, destructive ones only with proof.

Pure: called by the engine with itself; what it decides leaves as `Decision`s and `Action`s.
Keeps: I1 (no step that needs a fence before that fence is CONFIRMED), I3 (no destructive step on
one source), I4 (none in a gap, a hold or maintenance), I6 (one idempotency key per effect).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from correlator import report
from correlator.rules.conditions import parse_structure
from correlator.rules.paths import parse_path, walk
from correlator.state import IncidentState, Sent
from schemas.base import digest, kind_of
from schemas.outputs import DESTRUCTIVE_VERBS, Action, Decision
from schemas.rules import Policy, Step

if TYPE_CHECKING:
    from correlator.engine import Engine
    from schemas.inputs import Result

FINAL = frozenset({"CONFIRMED", "FAILED", "TIMED_OUT", "REJECTED", "UNKNOWN"})
SOURCES_MIN = 2
"""Independent sources a destructive step needs."""
Refusal = tuple[str, str, str]
"""(verdict, reason, sentence)."""


def plan(engine: "Engine", incident: IncidentState) -> None:
    """Decide what to do about an incident now; say each reason once."""
    policy = policy_for(engine, incident.fault[0])
    if policy is None:
        _say(engine, incident, "", ("note", "no_policy", f"no policy speaks of {incident.fault[0]}"))
        return
    refusal = next(_refusals(engine, incident, policy), None)
    if refusal is not None:
        _say(engine, incident, policy.name, refusal)
        return
    for number, (verb, step) in enumerate(
        ((verb, body or Step()) for entry in policy.do for verb, body in entry.items()), start=1
    ):
        refusal = _step_refusal(engine, incident, verb, step)
        if refusal is not None:
            _say(engine, incident, f"{policy.name} step {number}", refusal)
            return
        _send(engine, incident, policy, number, verb, step)


def policy_for(engine: "Engine", signature: str) -> Policy | None:
    """Return the policy that names a signature, else the one for all, else None."""
    named = (p for p in engine.rules.policies if signature in p.cause)
    general = (p for p in engine.rules.policies if "*" in p.cause)
    return next(named, None) or next(general, None)


def _refusals(engine: "Engine", incident: IncidentState, policy: Policy) -> Iterator[Refusal]:
    state = engine.state
    root = incident.fault[1]
    if incident.confidence < policy.confidence_min:
        yield (
            "wait",
            "confidence_below_policy",
            f"{root}: confidence {incident.confidence:.3f} is below {policy.confidence_min}",
        )
    hold_us = round(policy.hold * 1e6)
    if state.live_us - incident.since_us < hold_us:
        state.wake(incident.since_us + hold_us, "plan", incident.incident_id)
        yield "wait", "hold", f"{root} must stay the best explanation for {policy.hold:g} s"
    if root in state.sessions:
        yield "refuse", "maintenance", f"{root} is under maintenance by {state.sessions[root].by}"
    for text in policy.guard.only_if:
        if not parse_structure(text).holds(state.topology, root):
            yield "refuse", "guard_only_if", f"{root}: {text} does not hold"
    yield from _crowds(engine, policy)


def _crowds(engine: "Engine", policy: Policy) -> Iterator[Refusal]:
    state = engine.state
    stop = policy.guard.stop_if
    if stop is not None:
        since_us = state.live_us - round(stop.within * 1e6)
        roots = {root for at_us, root in state.roots_us if at_us >= since_us}
        hit = sum(kind_of(root) == stop.roots for root in roots)
        all_of_kind = state.topology.kind_counts.get(stop.roots, 0)
        if hit > stop.share * all_of_kind:
            text = f"{hit} of {all_of_kind} {stop.roots} entities are roots: it is us, or what they share"
            yield "refuse", "guard_stop_if", text
    budget = policy.guard.max
    if budget is not None:
        since_us = state.live_us - round(budget.per * 1e6)
        recent = [t for t in state.actions_us.get(policy.name, []) if t >= since_us]
        state.actions_us[policy.name] = recent
        if len(recent) >= budget.actions:
            yield "refuse", "guard_max", f"{len(recent)} actions in {budget.per:g} s are the budget"


def _step_refusal(
    engine: "Engine", incident: IncidentState, verb: str, step: Step
) -> Refusal | None:
    state = engine.state
    if step.needs:
        needed = step.needs.split(".")[0]
        found = [sent for sent in incident.sent if sent.verb == needed]
        if not found or not all(sent.state == "CONFIRMED" for sent in found):
            states = ", ".join(sorted({sent.state for sent in found})) or "not sent"
            return "wait", "needs_proof", f"{verb} waits for {step.needs} ({needed}: {states})"
    if verb not in DESTRUCTIVE_VERBS:
        return None
    if incident.state != "open":
        return "refuse", "only_suspected", f"{verb} needs a named cause, this one is suspected"
    if state.hold is not None:
        return "wait", "domain_hold", f"{verb} waits: the domain is held ({state.hold})"
    if state.live_us < state.gap_until_us:
        state.wake(state.gap_until_us, "plan", incident.incident_id)
        return "wait", "stream_gap", f"{verb} waits: the log has just had a gap"
    keys = sorted(engine.evidence.get(incident.incident_id, ()))
    sources = {state.sightings[k].source for k in keys if not state.sightings[k].spooled}
    if len(sources) < SOURCES_MIN:
        return "wait", "one_witness", f"{verb} needs {SOURCES_MIN} sources, there is {len(sources)}"
    return None


def _targets(engine: "Engine", root: str, target: str) -> list[str]:
    path = target.removeprefix("$root").removeprefix(".")
    return list(walk(engine.state.topology, root, parse_path(path))) if path else [root]


def _send(
    engine: "Engine", incident: IncidentState, policy: Policy, number: int, verb: str, step: Step
) -> None:
    """Emit a step's actions that have not left yet."""
    state = engine.state
    needs = [s.key for s in incident.sent if step.needs and s.verb == step.needs.split(".")[0]]
    for target in _targets(engine, incident.fault[1], step.target):
        if any(s.verb == verb and s.target == target for s in incident.sent):
            continue
        told = (incident.incident_id, incident.update) if verb in ("notify", "page") else ()
        generation = state.generations.get(target, 0)
        key = digest(state.domain, verb, target, generation, incident.mode, 0, *told)
        incident.sent.append(Sent(key, verb, target, number, state.live_us))
        state.actions_us.setdefault(policy.name, []).append(state.live_us)
        parameters = {k: v.replace("$root", incident.fault[1]) for k, v in step.parameters.items()}
        engine.out.append(
            Action(
                action_id=digest(key, state.epoch),
                idempotency_key=key,
                verb=verb,  # type: ignore[arg-type]
                target=target,
                target_generation=generation,
                domain=state.domain,
                epoch=state.epoch,
                incident_id=incident.incident_id,
                policy=policy.name,
                step=number,
                mode=incident.mode,  # type: ignore[arg-type]
                needs=needs,
                parameters=parameters,
                expires_at=report.moment(state.log_us + round(step.timeout * 1e6)),
            )
        )
        text = f"{verb} {target}: {incident.fault[0]} of {incident.fault[1]} ({incident.mode})"
        _say(engine, incident, f"{policy.name} step {number} {target}", ("act", "policy", text))


def revoke(engine: "Engine", incident: IncidentState) -> None:
    """Take back what was sent for a cause that is no longer believed."""
    state = engine.state
    for sent in [s for s in incident.sent if s.verb not in ("notify", "page", "revoke")]:
        if sent.state in FINAL:
            continue
        sent.state = "REVOKED"
        key = digest(state.domain, "revoke", sent.key)
        engine.out.append(
            Action(
                action_id=digest(key, state.epoch),
                idempotency_key=key,
                verb="revoke",
                target=sent.target,
                target_generation=state.generations.get(sent.target, 0),
                domain=state.domain,
                epoch=state.epoch,
                incident_id=incident.incident_id,
                policy="verdict_changed",
                step=sent.step,
                mode=incident.mode,  # type: ignore[arg-type]
                parameters={"revokes": sent.key, "verb": sent.verb},
                expires_at=report.moment(state.log_us + 60_000_000),
            )
        )
    incident.said.clear()


def take_result(engine: "Engine", result: "Result") -> None:
    """Note what came of an action; the steps that waited for it may now leave."""
    state = engine.state
    for incident in (state.incidents[i] for i in sorted(state.incidents)):
        for sent in incident.sent:
            if sent.key != result.idempotency_key or sent.state in FINAL:
                continue
            if incident.mode == "dry_run":
                text = f"{sent.verb} {sent.target}: a dry run proves nothing"
                _say(engine, incident, sent.key, ("refuse", "dry_run_result", text))
                return
            sent.state = result.state
            if sent.verb == "unfence" and result.state == "CONFIRMED":
                state.generations[sent.target] = state.generations.get(sent.target, 0) + 1
            text = f"{sent.verb} {sent.target}: {result.state} by {result.actuator}"
            _say(engine, incident, f"{sent.key} {result.state}", ("note", "result", text))
            plan(engine, incident)
            return
    state.count("results_unknown")


def _say(engine: "Engine", incident: IncidentState, what: str, refusal: Refusal) -> None:
    verdict, reason, text = refusal
    if incident.said.get(what) == reason:
        return
    incident.said[what] = reason
    engine.out.append(
        Decision(
            entity=incident.fault[1],
            verdict=verdict,  # type: ignore[arg-type]
            reason=reason,
            text=text,
            incident_id=incident.incident_id,
            policy=what or None,
            decided_at=report.moment(engine.state.log_us),
        )
    )
