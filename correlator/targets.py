"""Why a target of a step, or a method on it, must wait or be left alone: what owners and sites say.

One small pure function for each reason, as in `guards.py`, whose tuples say which are asked and in
which order. Keeps: I9 (what an owner has said of a workload), I4 (maintenance).
"""

from correlator.domain import Domain
from correlator.doubts import AGAIN_US, worked_on
from correlator.evidence import below, dumping_until_us, may_dump_until_us, value
from correlator.placement import (
    PLACED_VERBS,
    Nowhere,
    hosts_of,
    is_in_trouble,
    placed,
    view_of,
)
from correlator.plans import TELLING, PlannedStep, Reason, tried
from correlator.rules.ruleset import OTHER_OWNER
from schemas.base import kind_of
from schemas.outputs import DESTRUCTIVE_VERBS, WORKLOAD_VERBS
from schemas.rules import Budget

MECHANISMS = {
    "restart_vm": "restart",
    "rebuild_vm": "rebuild",
    "evacuate_vm": "evacuate",
    "live_migrate": "live_migrate",
    "failover_vnf": "failover",
}
"""Verb → the way of bringing back that a site may allow or not."""
PLACE_AGAIN_US = 5_000_000
"""After this a workload that has nowhere to go is asked about again."""
STOPPED_BY_USER = "user.vm.stop"
"""Symptom of a VM that its user has ended."""
REQUESTED = "maint.requested"
"""Symptom of an entity that an operator's session is about to begin on."""
DRAINING = frozenset({"live_migrate", "quarantine"})
"""What a session's own host is emptied by."""
POWER_METHODS = frozenset({"bmc_off", "pdu_off"})


# ---- one target of a step ------------------------------------------------------------------


def opted_out(step: PlannedStep, target: str) -> Reason | None:
    """An owner may have said that nobody else restarts or moves it (I9)."""
    is_workload = step.verb in WORKLOAD_VERBS
    if not is_workload or step.plan.domain.book.of(target).recover:
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
    session_of = worked_on(step.plan.domain, target)
    if session_of is None:
        return None
    if step.verb in DRAINING and _asks_for(step, session_of):
        return None
    by = state.sessions[session_of].by
    text = f"{step.verb} {target}: {session_of} is under maintenance by {by}"
    return Reason("refuse", "maintenance", text)


def _asks_for(step: PlannedStep, worked_on: str) -> bool:
    """Claim that the session itself is what an incident is about: its host is to be emptied."""
    asked = step.plan.domain.state.sightings.get((REQUESTED, worked_on))
    is_own = asked is not None and asked.incident == step.plan.incident.incident_id
    return is_own and value(asked) == "raised" and worked_on == step.plan.root


def most_often(domain: Domain, verb: str) -> Budget | None:
    """Return how often one target may be fenced or restarted; None for what nobody counts."""
    limits = domain.rules.limits
    return {"fence": limits.fences_per_host, "restart_vm": limits.restarts_per_vm}.get(verb)


def too_often(step: PlannedStep, target: str) -> Reason | None:
    """What has to be done again and again does not help (H15: fencing and restarting in a loop)."""
    state = step.plan.domain.state
    most = most_often(step.plan.domain, step.verb)
    begun = state.begun_us.get(f"{step.verb} {target}", [])
    is_under_way = step.verb == "fence" and bool(tried(step.plan.incident, step.verb, target))
    if most is None or is_under_way:
        return None
    window_us = round(most.per * 1e6)
    recent = [at for at in begun if at > state.live_us - window_us]
    allowed = most.actions * (1 + step.plan.incident.retries)
    if len(recent) < allowed:
        return None
    text = f"{step.verb} {target}: {len(recent)} times within {most.per:g} s did not help"
    return Reason("refuse", "too_often", text, recent[-allowed] + window_us + 1, page=True)


# ---- one method of a fence ------------------------------------------------------------------


def cuts_power(method: str) -> bool:
    """Claim that a method ends power; an actuator that may choose one may choose that."""
    return method in POWER_METHODS or not method


def dumping(step: PlannedStep, target: str, method: str) -> Reason | None:
    """A power cycle would end the dump, and what it could have told (H15)."""
    domain = step.plan.domain
    until_us = may_dump_until_us(domain, target) if cuts_power(method) else None
    if until_us is None:
        return None
    text = f"fence {target} by {method or 'power'} waits: its kernel dumps, or may begin to"
    # A dump that begins gives another method its turn, and asks for no look of its own.
    return Reason("wait", "dumping", text, min(until_us, domain.state.live_us + AGAIN_US))


def no_dump(step: PlannedStep, target: str, method: str) -> Reason | None:
    """A dump proves that no VM writes where a dump is told of."""
    if method != "kdump" or dumping_until_us(step.plan.domain, target) is not None:
        return None
    return Reason("refuse", "no_dump", f"fence {target} by kdump: nothing tells of a dump")


# ---- what owners and sites say --------------------------------------------------------------


def owner_holds(step: PlannedStep, target: str) -> Reason | None:
    """The owner of a workload has the first word, and the time to say it (R05)."""
    vnfm, state = step.plan.domain.book.of(target).vnfm, step.plan.domain.state
    if vnfm is None or step.verb not in WORKLOAD_VERBS:
        return None
    notices = [one for one in tried(step.plan.incident, "notify", target) if one.vnfm]
    words = {one.state for one in notices} if vnfm.ack else set()
    if "REJECTED" in words:
        text = f"{step.verb} {target}: its owner recovers it itself ({vnfm.notify})"
        return Reason("refuse", "owner_recovers", text)
    told_us = min((one.sent_us for one in notices), default=state.live_us)
    due_us = told_us + round(vnfm.hold * 1e6)
    if notices and ("CONFIRMED" in words or state.live_us >= due_us):
        return None
    text = f"{step.verb} {target} waits for its owner ({vnfm.notify}), {vnfm.hold:g} s at most"
    return Reason("wait", "owner_hold", text, due_us)


def not_its_way(step: PlannedStep, target: str) -> Reason | None:
    """A site says how a workload is brought back, and whether it leaves its host (R03)."""
    said, way = step.plan.domain.book.of(target), MECHANISMS.get(step.verb)
    stays = said.migration == "none" and step.verb in PLACED_VERBS - {"create_vm"}
    stays = stays or (said.migration == "offline" and step.verb == "live_migrate")
    if not stays and (way is None or way in said.mechanisms):
        return None
    ways = ", ".join(said.mechanisms) or "nothing"
    text = f"{step.verb} {target}: its site allows {ways}, migration {said.migration}"
    return Reason("refuse", "mechanism_not_allowed", text)


def no_destination(step: PlannedStep, target: str) -> Reason | None:
    """A workload is brought where it can be, or nowhere; others go on (R14, H26, X17)."""
    if step.verb not in PLACED_VERBS or any(state != "CONFIRMED" for _, state in step.proofs):
        return None
    found = placed(step, target)
    if not isinstance(found, Nowhere):
        return None
    again_us = step.plan.domain.state.live_us + PLACE_AGAIN_US
    text = f"{step.verb} {target} has nowhere to go: {found.text}"
    if found.is_busy:
        return Reason("wait", "destination_busy", text, again_us)
    page = not _is_paged(step, "no_destination")
    return Reason("refuse", "no_destination", text, again_us, page=page)


def _is_paged(step: PlannedStep, code: str) -> bool:
    """Claim that a person was called for a reason already: one call for a host, not one a VM."""
    said = step.plan.incident.said
    return any(found == code and what.startswith("page ") for what, found in said.items())


def other_owner(step: PlannedStep, target: str) -> Reason | None:
    """Two who recover the same hosts start everything twice; the other one was here first."""
    if step.verb not in DESTRUCTIVE_VERBS:
        return None
    domain = step.plan.domain
    shared = next((one for one in below(domain, target) if domain.stands((OTHER_OWNER, one))), None)
    if shared is None:
        return None
    text = f"{step.verb} {target}: something else recovers {shared} as well"
    return Reason("refuse", "other_owner", text, page=not _is_paged(step, "other_owner"))


def carries_us(step: PlannedStep) -> Reason | None:
    """What we run on is not ended without a person's word: nobody would be left to go on."""
    domain, incident = step.plan.domain, step.plan.incident
    if step.verb != "fence" or incident.approval == "approved" or "carries" not in domain.book.keys:
        return None
    for target in step.targets:
        guests = (one for one in domain.state.topology.down[target] if kind_of(one) == "vm")
        carried = {what for one in (target, *guests) for what in domain.book.of(one).carries}
        if "actuator" in carried and _acts_elsewhere(domain, target):
            carried.remove("actuator")
        if carried:
            found = ", ".join(sorted(carried))
            text = f"fence of {target} needs an approval: it carries our {found}"
            return Reason("wait", "carries_us", text, page=True)
    return None


def _acts_elsewhere(domain: Domain, host: str) -> bool:
    """Claim that another host that is well carries an actuator."""
    topology, view = domain.state.topology, view_of(domain)
    others = [one for one in topology.of_kind("host") if one != host]
    guests = [one for one in topology.of_kind("vm") if host not in hosts_of(topology, one)]
    carriers = [(one, one) for one in others]
    carriers += [(guest, one) for guest in guests for one in hosts_of(topology, guest)]
    return any(
        "actuator" in domain.book.of(carrier).carries and not is_in_trouble(view, one)
        for carrier, one in carriers
    )


def net_is_moving(step: PlannedStep) -> Reason | None:
    """What is cleaned away may still serve those who have not moved (R18, H31)."""
    if step.verb != "cleanup_net":
        return None
    last = {
        one.target: one.state
        for one in step.plan.incident.sent
        if one.verb == "reschedule_net" and one.state != "REVOKED"
    }
    moving = sorted(target for target, state in last.items() if state != "CONFIRMED")
    if not moving:
        return None
    return Reason("wait", "net_is_moving", f"{step.verb} waits: {moving[0]} is not moved yet")
