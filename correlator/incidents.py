"""Causes → incidents: opened, revised, merged and closed as the best explanation changes.

A look explains every component of symptoms that has changed and brings the incidents in line with
it. Called at the end of a step that asks for it. Keeps: a symptom belongs to one incident at most,
and an incident without symptoms ends.
"""

from bisect import bisect_right
from dataclasses import dataclass

from correlator import actions, astray, inference, planner, report
from correlator.domain import Domain
from correlator.inference import Explanation, Verdict
from correlator.profiles import CROWD
from correlator.standing import SETTLED
from correlator.state import IncidentState, SymptomKey
from correlator.targets import REQUESTED
from correlator.weighing import Look
from schemas.base import digest

LOOK_AGES_S = (0.25, 0.5, 1.0, 1.5, 3.0, 4.0, 6.0, 8.0, 11.5, 14.0, 16.0, 18.0)
"""Ages at which a fault that waits is looked at again: the prototype's steps."""
TOLD_RANKS = 3
"""A change among so many first causes is worth an update."""
TOLD_CONFIDENCES = (0.9, 0.99, 0.999)
"""Passing one of these, up or down, is worth an update: they are what policies ask for."""
RESTS_FROM = 200
"""After a look at more possible causes the next one waits: dozens of faults have begun at once."""
REST_US = 1_000
"""For each possible cause above that. It takes some 700 µs there (measured, 20 faults pressed into
2 s), so looks leave about half of the time to what comes."""
REST_MAX_US = 3_000_000
REVISES_MAX = 10
"""Causes an incident remembers to have named before."""


def look(domain: Domain) -> None:
    """Explain every component that has changed, and all that a fault shows that is due again."""
    state = domain.state
    if state.live_us < state.rests_until_us:
        _postpone(domain)
        return
    present = Look(domain.codebook, state.sightings, state.live_us, domain.standing)
    for signature, entity in domain.due:
        _again(domain, present, signature, entity)
    domain.due.clear()
    weighed = 0
    for start in sorted(state.dirty & domain.standing.free):
        if start in state.dirty:  # else explained together with one before
            weighed += _explain(domain, present, start)
    state.dirty.clear()
    if weighed > RESTS_FROM:
        rest_us = min((weighed - RESTS_FROM) * REST_US, REST_MAX_US)
        state.rests_until_us = state.live_us + rest_us


def _postpone(domain: Domain) -> None:
    """Look when the rest is over; what has come until then is seen to together."""
    state = domain.state
    state.wake(state.rests_until_us, "look")
    for fault in domain.due:
        state.wake(state.rests_until_us, "relook", *fault)
    domain.due.clear()


def relook(domain: Domain, signature: str, entity: str) -> None:
    """Look again at all that a fault shows, now that its silence says more."""
    domain.due.append((signature, entity))
    domain.look_now()


def _again(domain: Domain, present: Look, signature: str, entity: str) -> None:
    """Mark what a fault shows, unless it is granted and its silence has changed nothing."""
    standing, index = domain.standing, domain.signature_index.get(signature)
    if index is None:
        return
    for name in standing.settled_as((index, entity)):
        incident = domain.state.incidents[name]
        if not _still_holds(domain, present, incident):
            domain.unsettle([name])
        planner.plan(domain, incident)
    domain.state.dirty |= standing.free & standing.support.get((index, entity), {}).keys()


def _still_holds(domain: Domain, present: Look, incident: IncidentState) -> bool:
    """Claim that a granted cause is still sure, less what its silence has cost it since.

    What has come since pays for silence; what else that might mean is asked when it comes.
    """
    if incident.is_final or present.is_recovering(incident.incident_id):
        return True
    worth = present.worth_alone(domain.standing.settled[incident.incident_id].fault)
    if worth is None:
        return False
    now, final = worth
    margin = incident.granted + min(0.0, now - incident.worth)
    if margin < SETTLED:
        return False
    incident.granted, incident.worth = round(margin, 6), round(now, 6)
    incident.is_final = margin - now + final >= SETTLED
    domain.settle(incident)
    _wake_when_older(domain, incident)
    return True


def _explain(domain: Domain, present: Look, start: SymptomKey) -> int:
    """Explain one component, and bring the incidents in line; return how many causes it weighed."""
    found = inference.component(present, start)
    weighed = len(found.candidates)
    while found.doubtful:
        domain.unsettle(found.doubtful)
        present.forget_granted()
        found = inference.component(present, start)
        weighed += len(found.candidates)
    domain.state.dirty -= found.symptoms
    explanation = inference.explain(present, found)
    if found.candidates:
        _reconcile(domain, present, explanation)
    for key in explanation.symptoms:
        granted = None if key in explanation.owner else present.granted(key)
        if granted is not None and granted[0] in domain.state.incidents:  # It may just have ended.
            domain.own(key, granted[0])
    return weighed


def plan(domain: Domain, incident_id: str) -> None:
    """Decide anew what to do about an incident, if it is still open."""
    state = domain.state
    if incident_id in state.incidents:
        planner.plan(domain, state.incidents[incident_id])
    elif incident_id in state.ended:
        planner.let_back(domain, state.ended[incident_id])


def _reconcile(domain: Domain, present: Look, explanation: Explanation) -> None:
    """Bring the incidents in line with what now explains their symptoms best."""
    before = _holders(domain, explanation)
    continued = _continued(domain, explanation, before)
    chosen = {verdict.candidate.fault[1] for verdict in explanation.verdicts}
    for incident in before:
        if incident.incident_id in continued:
            _revise(domain, present, incident, continued[incident.incident_id])
        elif chosen and incident.fault[1] not in chosen:
            _merge(domain, incident, sorted(chosen))
    for verdict in explanation.verdicts:
        if not any(other is verdict for other in continued.values()):
            _consider(domain, present, verdict)
    _assign(domain, explanation)
    for incident in _holders(domain, explanation):
        planner.plan(domain, incident)


def _holders(domain: Domain, explanation: Explanation) -> list[IncidentState]:
    """Return the incidents that hold symptoms of a component, in the order of their ids."""
    found = {domain.state.sightings[key].incident for key in explanation.symptoms}
    incidents = domain.state.incidents
    return [incidents[name] for name in sorted(filter(None, found)) if name in incidents]


def _continued(
    domain: Domain, explanation: Explanation, before: list[IncidentState]
) -> dict[str, Verdict]:
    """Return which incident each verdict goes on with: incident id → verdict."""
    chosen = {verdict.candidate.fault[1] for verdict in explanation.verdicts}
    continued: dict[str, Verdict] = {}
    for verdict in explanation.verdicts:
        free = [
            incident
            for incident in before
            if incident.incident_id not in continued and _continues(domain, incident, verdict)
        ]
        incident = _best(domain, verdict, free, chosen)
        if incident is not None:
            continued[incident.incident_id] = verdict
    return continued


def _best(
    domain: Domain, verdict: Verdict, free: list[IncidentState], chosen: set[str]
) -> IncidentState | None:
    """Return the incident of the same entity, else the one that shares most of its symptoms."""
    entity = verdict.candidate.fault[1]
    same = [incident for incident in free if incident.fault[1] == entity]
    if same:
        return max(same, key=lambda i: (i.onset_us, i.incident_id))
    evidence, explained = domain.standing.evidence, verdict.candidate.explains
    shared = {
        incident.incident_id: len(evidence.get(incident.incident_id, set()) & explained)
        for incident in free
        if incident.fault[1] not in chosen
    }
    others = [incident for incident in free if shared.get(incident.incident_id)]
    return max(others, key=lambda i: (shared[i.incident_id], -i.opened_us), default=None)


def _continues(domain: Domain, incident: IncidentState, verdict: Verdict) -> bool:
    """Claim that a cause began early enough to be what the incident was opened for."""
    return verdict.candidate.onset_us <= incident.onset_us + domain.knob_us["lateness"]


# ---- open ----------------------------------------------------------------------------------


def _consider(domain: Domain, present: Look, verdict: Verdict) -> None:
    """A fault with no incident yet: wait, expect it as maintenance, or open one."""
    state = domain.state
    index, entity = verdict.candidate.fault
    name = domain.rules.signatures[index].name
    if entity in state.sessions and (REQUESTED, entity) not in verdict.candidate.explains:
        _expected(domain, name, entity)
        return
    onset_us = verdict.candidate.onset_us
    wait_us, wait_max_us = _wait_us(domain, name), domain.knob_us["wait_max"]
    is_hasty = _is_beside_more(domain, onset_us) and astray.may_be(present, verdict.candidate)
    confident = verdict.confidence >= domain.rules.knobs.confident and not is_hasty
    due_us = onset_us + (wait_us if confident else max(wait_us, wait_max_us))
    if state.live_us >= due_us:
        _open(domain, present, verdict)
    else:
        _wake_for(domain, (name, entity), onset_us, due_us)


def _is_beside_more(domain: Domain, onset_us: int) -> bool:
    """Claim that much else stands unexplained, or has begun at the same time as a fault."""
    standing, lateness_us = domain.standing, domain.knob_us["lateness"]
    return len(standing.free) >= CROWD or any(
        len(standing.evidence.get(name, ())) >= astray.FEW
        and abs(incident.onset_us - onset_us) <= lateness_us
        for name, incident in domain.state.incidents.items()
    )


def _wait_us(domain: Domain, signature: str) -> int:
    """Return how old a fault must be to open an incident at all."""
    own_us = domain.rules.signatures[domain.signature_index[signature]].wait_us
    return domain.knob_us["wait"] if own_us is None else own_us


def _together(domain: Domain, at_us: int) -> int:
    """Return a time a little later that others wake at as well: one look sees to all."""
    step_us = domain.knob_us["gather"]
    return at_us + -at_us % step_us if step_us else at_us


def _expected(domain: Domain, signature: str, entity: str) -> None:
    """Say once per session that a fault is part of it."""
    session = domain.state.sessions[entity]
    if not session.told:
        session.told = True
        text = f"{signature} is expected: maintenance by {session.by} ({session.reason})"
        domain.note(entity, "maintenance", text)


def _wake_for(domain: Domain, fault: tuple[str, str], onset_us: int, due_us: int) -> None:
    """Look again when waiting ends, and at the ages at which silence says something new."""
    state = domain.state
    for age_s in LOOK_AGES_S:
        at_us = _together(domain, onset_us + round(age_s * 1e6))
        if state.live_us < at_us < due_us and at_us >= onset_us + _wait_us(domain, fault[0]):
            state.wake(at_us, "relook", *fault)
            break
    state.wake(due_us, "relook", *fault)


def _open(domain: Domain, present: Look, verdict: Verdict) -> None:
    state = domain.state
    index, entity = verdict.candidate.fault
    name = domain.rules.signatures[index].name
    state.count("incidents_opened")  # One step may open, revise and open again for one entity.
    ordinal = state.counters["incidents_opened"]
    incident = IncidentState(
        incident_id=digest(state.domain, state.offset, state.index, entity, ordinal),
        opened_us=state.live_us,
        onset_us=verdict.candidate.onset_us,
        fault=(name, entity),
        since_us=state.live_us,
        mode=state.mode,
        update=-1,
    )
    state.incidents[incident.incident_id] = incident
    domain.standing.name(incident.incident_id, None, entity)
    _count_root(domain, entity)
    for key in sorted(verdict.candidate.explains):
        domain.own(key, incident.incident_id)
    state.wake(
        state.live_us + round(domain.rules.limits.hold_max * 1e6), "plan", incident.incident_id
    )
    _revise(domain, present, incident, verdict)


def _count_root(domain: Domain, entity: str) -> None:
    """Count a cause for the guards, unless it is worked on: then it has not failed."""
    if entity not in domain.state.sessions:
        domain.state.count_root(entity)


# ---- revise --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Standing:
    """What is worth a message when it changes."""

    fault: tuple[str, str]
    state: str
    nines: int
    """How many of the confidences that policies ask for are reached."""
    ranking: list[str]


def _standing(incident: IncidentState) -> _Standing:
    nines = bisect_right(TOLD_CONFIDENCES, incident.confidence)
    roots = [row[1] for row in incident.ranking[:TOLD_RANKS]]
    return _Standing(incident.fault, incident.state, nines, roots)


def _revise(domain: Domain, present: Look, incident: IncidentState, verdict: Verdict) -> None:
    """Update an incident's cause, confidence and ranking; say so when it matters."""
    state, signatures = domain.state, domain.rules.signatures
    index, entity = verdict.candidate.fault
    before, root_before = _standing(incident), incident.fault[1]
    incident.fault = (signatures[index].name, entity)
    if incident.update >= 0 and present.is_recovering(incident.incident_id):
        _no_surer(incident, verdict)
    incident.confidence = round(verdict.confidence, 6)
    incident.margin = round(verdict.margin, 6)
    incident.worth = round((present.worth_alone(verdict.candidate.fault) or (0.0, 0.0))[0], 6)
    incident.is_final = verdict.margin_final >= SETTLED
    incident.granted, incident.weighed_us = incident.margin, state.live_us
    incident.onset_us = min(incident.onset_us, verdict.candidate.onset_us)
    domain.settle(incident)
    incident.ranking = [
        (signatures[fault[0]].name, fault[1], round(score, 6)) for fault, score in verdict.ranking
    ]
    named = verdict.confidence > domain.rules.knobs.named
    incident.state = "open" if named else "suspected"
    _look_when_final(domain, incident, verdict)
    if entity != root_before:
        domain.standing.name(incident.incident_id, root_before, entity)
        incident.targets.clear()
        incident.revises = [*incident.revises[1 - REVISES_MAX :], root_before]
        incident.since_us = state.live_us
        _count_root(domain, entity)
    if incident.update < 0 or _standing(incident) != before:
        incident.update += 1
        incident.updated_us = state.live_us
        domain.out.append(report.incident(present, incident, verdict, state))
    if entity != root_before:
        actions.revoke(domain, incident)


def _no_surer(incident: IncidentState, verdict: Verdict) -> None:
    """What is over gives no better reasons: its rivals may only have been forgotten before it."""
    verdict.margin = min(verdict.margin, incident.margin)
    verdict.margin_final = min(verdict.margin_final, incident.margin)
    verdict.confidence = min(verdict.confidence, incident.confidence)


def _look_when_final(domain: Domain, incident: IncidentState, verdict: Verdict) -> None:
    """Look once more when silence has said all: of the cause, and of what rivals it."""
    state = domain.state
    last_us = max(state.sightings[key].first_us for key in verdict.candidate.explains)
    final_us = last_us + domain.longest_us + domain.knob_us["lateness"]
    if final_us > max(incident.final_us, state.live_us):
        incident.final_us = final_us
        state.wake(final_us, "relook", *incident.fault)
    _wake_when_older(domain, incident)


def _wake_when_older(domain: Domain, incident: IncidentState) -> None:
    """Look again when an incident's age has doubled, until silence can say nothing more."""
    live_us = domain.state.live_us
    doubled_us = live_us + max(live_us - incident.onset_us, domain.knob_us["gather"])
    if not incident.is_final and doubled_us < incident.final_us:
        domain.state.wake(_together(domain, doubled_us), "relook", *incident.fault)


def _assign(domain: Domain, explanation: Explanation) -> None:
    """Give each explained symptom to the incident of the cause that explains it."""
    of_root: dict[str, IncidentState | None] = {}
    for key in explanation.symptoms:
        fault = explanation.owner.get(key)
        if fault is None:
            continue
        if fault[1] not in of_root:
            named = [domain.state.incidents[i] for i in domain.standing.naming(fault[1])]
            of_root[fault[1]] = max(named, key=lambda i: i.onset_us, default=None)
        incident = of_root[fault[1]]
        if incident is not None:
            domain.own(key, incident.incident_id)


# ---- end -----------------------------------------------------------------------------------


def _merge(domain: Domain, incident: IncidentState, roots: list[str]) -> None:
    """An incident whose symptoms another cause now explains ends as part of that one."""
    text = f"its symptoms are explained by {', '.join(roots[:3])}"
    domain.note(incident.fault[1], "merged", text)
    actions.revoke(domain, incident)
    for key in domain.standing.held_by(incident.incident_id):
        domain.own(key, None)
    _end(domain, incident, after_us=domain.knob_us["settle"])


def close_if_quiet(domain: Domain, incident_id: str) -> None:
    """End an incident when none of its symptoms stands or may still come back."""
    incident = domain.state.incidents.get(incident_id)
    if incident is None or incident.check_us is None:
        return
    if incident.check_us > domain.state.live_us:
        return
    incident.check_us = None
    keys = domain.standing.held_by(incident_id)
    ends = [domain.ends_us(domain.state.sightings[key]) for key in keys]
    due_us = max([*ends, planner.busy_until_us(domain, incident)])
    if due_us > domain.state.live_us:
        domain.check_end(incident_id, due_us)
        return
    for key in keys:
        domain.drop(key)
    _end(domain, incident)


def _end(domain: Domain, incident: IncidentState, after_us: int = 0) -> None:
    state = domain.state
    incident.state = "cleared"
    incident.update += 1
    incident.updated_us = state.live_us
    domain.out.append(report.ended(incident, state, domain.rules))
    domain.unsettle([incident.incident_id])
    domain.standing.name(incident.incident_id, incident.fault[1], None)
    del state.incidents[incident.incident_id]
    planner.part(domain, incident, after_us)
