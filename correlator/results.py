"""What came of an action: noted, believed only with its proof, and the plan asked anew.

An actuator's `CONFIRMED` is its word; a fence counts when what was observed proves it. What was on
its way to a host that is dead, or to a workload that its user stopped, ends here. Keeps: I1, I6.
"""

from correlator import planner
from correlator.actions import recall, say
from correlator.domain import Domain
from correlator.doubts import AGAIN_US
from correlator.placement import may_be_at
from correlator.plans import FINAL, Reason
from correlator.state import EngineState, IncidentState, Sent
from schemas.base import digest, kind_of
from schemas.inputs import Result
from schemas.outputs import WORKLOAD_VERBS

FENCE_PROOFS = {
    "bmc_off": frozenset({"OFF"}),
    "pdu_off": frozenset({"OFF"}),
    "storage_blocklist": frozenset({"BLOCKED"}),
    "tor_port_down": frozenset({"DOWN"}),
    "watchdog_bound": frozenset({"ELAPSED"}),
    "kdump": frozenset({"DUMPING"}),
    "vm_destroy": frozenset({"DESTROYED"}),
}
"""method → what must have been observed after it: a return code proves nothing (H12, H13)."""
OF_A_VM = frozenset({"vm_destroy"})
"""Methods whose proof is one of a VM, and never of its host."""
RENEWING = frozenset(
    {
        "unfence",
        "failover_vnf",
        "failover_link",
        "restart_vm",
        "restart_process",
        "reschedule_net",
    }
)
"""Verbs after which the target is another one: the next of its kind is no duplicate."""

BUSY = frozenset({"locked", "rate_limited"})
"""Reasons of an actuator to refuse what it may well do a little later (action contract)."""
CORRECTED = frozenset({"TIMED_OUT", "UNKNOWN"})
"""States that a late word of the actuator may still put right (H3, H18)."""


def take_result(domain: Domain, result: Result) -> None:
    """Note what came of an action; the steps that waited for it may now leave."""
    state = domain.state
    found = False
    open_ = {**state.ended, **state.incidents}
    for incident in [open_[name] for name in sorted(open_)]:
        for sent in list(incident.sent):
            is_of_it = sent.key == result.idempotency_key and result.verb in ("", sent.verb)
            if is_of_it and _may_follow(sent, result) and not _is_of_old_epoch(state, sent, result):
                found = True
                _note_result(domain, incident, sent, result)
    if not found:
        state.count("results_unknown")


def _is_of_old_epoch(state: EngineState, sent: Sent, result: Result) -> bool:
    """Claim that a refusal is of a copy that the owner before sent: ours is still on its way."""
    return result.state == "REJECTED" and result.action_id != digest(sent.key, state.epoch or 0)


def _may_follow(sent: Sent, result: Result) -> bool:
    """Claim that an answer says something new: also after it was given up, if it is now known."""
    late = sent.state in CORRECTED and result.state in ("CONFIRMED", "FAILED")
    return sent.state not in FINAL or late


def _note_result(domain: Domain, incident: IncidentState, sent: Sent, result: Result) -> None:
    if incident.mode == "dry_run":
        text = f"{sent.verb} {sent.target}: a dry run proves nothing"
        say(domain, incident, sent.key, Reason("refuse", "dry_run_result", text))
        return
    sent.state, reason = _outcome(sent, result)
    if sent.state in FINAL:
        sent.ended_us = domain.state.live_us
    else:
        sent.accepted_us = domain.state.live_us
    say(domain, incident, f"{sent.key} {result.state}", reason)
    if sent.state == "DEFERRED":
        domain.state.wake(domain.state.live_us + AGAIN_US, "plan", incident.incident_id)
        return
    if sent.state == "CONFIRMED":
        _note_effect(domain, sent)
        domain.check_end(incident.incident_id, domain.state.live_us)
    if incident.incident_id in domain.state.incidents:
        planner.plan(domain, incident)
    else:
        planner.let_back(domain, incident)


def _outcome(sent: Sent, result: Result) -> tuple[str, Reason]:
    """Return what an answer means for an attempt, and the words for it."""
    what = f"{sent.verb} {sent.target}"
    if result.state == "CONFIRMED" and sent.verb == "fence" and not _is_proven(sent, result):
        text = f"fence {sent.target}: CONFIRMED by {result.actuator} without what was observed"
        return "UNKNOWN", Reason("refuse", "no_proof", text)
    if result.state == "REJECTED" and "precondition" in result.proof:
        # The world has moved on: another method is no answer to that.
        text = f"{what}: {result.proof['precondition']} no longer holds"
        return "PREVENTED", Reason("refuse", "precondition_failed", text)
    is_busy = result.state == "REJECTED" and result.proof.get("reason") in BUSY
    text = f"{what}: {result.state} by {result.actuator}"
    return "DEFERRED" if is_busy else result.state, Reason("note", "result", text)


def _note_effect(domain: Domain, sent: Sent) -> None:
    """Remember what is no more as it was: another life of the target, or what is kept out."""
    state = domain.state
    if sent.verb in RENEWING:
        state.next_generation(sent.target)
    if sent.verb == "fence" and kind_of(sent.target) != "vm":
        state.fenced[sent.target] = state.live_us
        _end_moves_to(domain, sent)
    elif sent.verb == "unfence":
        state.fenced.pop(sent.target, None)


def _end_moves_to(domain: Domain, fence: Sent) -> None:
    """What was on its way to a host that is now proven dead has failed for good there (X18).

    It is another life of the workload that is brought elsewhere. Those that the graph has on the
    host already are recovered by the plan that has fenced it.
    """
    state = domain.state
    incidents = sorted(state.incidents.items(), key=lambda one: one[0])
    fencing = [one for _, one in incidents if any(sent.key == fence.key for sent in one.sent)]
    seen_to = {vm for one in fencing for targets in one.targets.values() for vm in targets}
    for name, incident in incidents:
        for sent in incident.sent:
            is_seen_to = sent.target in seen_to and incident not in fencing
            if not is_seen_to and may_be_at(state.topology, sent, fence.target):
                sent.state, sent.ended_us, sent.ended_with = "FAILED", state.live_us, fence.key
                state.next_generation(sent.target)
                text = f"{sent.verb} {sent.target}: its destination {fence.target} has died"
                say(domain, incident, f"{sent.key} lost", Reason("note", "destination_lost", text))
                state.wake(state.live_us, "plan", name)


def let_be(domain: Domain, vm: str) -> None:
    """Take back what is on its way to a workload that its user has stopped (X19, H27)."""
    for _, incident in sorted(domain.state.incidents.items(), key=lambda one: one[0]):
        for sent in incident.sent:
            if sent.target == vm and sent.verb in WORKLOAD_VERBS and sent.state not in FINAL:
                recall(domain, incident, sent, "stopped_by_user")


def _is_proven(sent: Sent, result: Result) -> bool:
    """Claim that a fence was observed to have worked, by a method that proves it of its target."""
    method = str(result.proof.get("method", ""))
    if (method in OF_A_VM) != (kind_of(sent.target) == "vm"):
        return False
    expected = FENCE_PROOFS.get(method, frozenset())
    return str(result.proof.get("observed_state", "")) in expected
