"""An operator's words: maintenance, holds, modes, and which rule set is active.

Each is answered by one decision, also where it is refused. Called by the engine; signatures were
checked before, by the shell.
"""

from collections.abc import Callable

from correlator import actions, incidents, planner, sightings
from correlator.domain import Domain
from correlator.state import HELD, IncidentState, Session
from correlator.targets import REQUESTED
from schemas.base import is_entity, to_microseconds
from schemas.inputs import Command, Event, State

COMMANDS_MAX = 1000
"""Command ids remembered to know a repeat."""
MODES = ("enforce", "dry_run", "approve")


def obey(domain: Domain, command: Command) -> None:
    """Carry out a command, unless it is a repeat or came too late."""
    state = domain.state
    if command.command_id is not None:
        if command.command_id in state.commands:
            state.count("duplicates")
            return
        state.commands = [*state.commands[1 - COMMANDS_MAX :], command.command_id]
    if command.expires_at and to_microseconds(command.expires_at) < state.log_us:
        _answer(domain, command, "refuse", "command_expired", "came after it had expired")
        return
    _VERBS.get(command.command, _no_object)(domain, command)


def _maintenance_start(domain: Domain, command: Command) -> None:
    state = domain.state
    until_us = to_microseconds(command.until) if command.until else None
    state.sessions[command.target] = Session(until_us, command.by, command.reason)
    if until_us is not None:
        ahead_us = max(0, until_us - state.log_us)
        state.wake(state.live_us + ahead_us, "session", command.target)
    _answer(domain, command, "note", "maintenance_started", "faults of it are expected")
    _tell(domain, command.target, "raised", command.by)


def _maintenance_end(domain: Domain, command: Command) -> None:
    ended = domain.state.sessions.pop(command.target, None)
    _tell(domain, command.target, "cleared", command.by)
    _answer(domain, command, "note", "maintenance_ended", "" if ended else "there was none")
    _look_at(domain, command.target)


def end_session_overdue(domain: Domain, target: str) -> None:
    """End a maintenance session whose time is over."""
    state = domain.state
    session = state.sessions.get(target)
    if session is None or session.until_us is None:
        return
    if session.until_us > state.log_us:
        state.wake(state.live_us + session.until_us - state.log_us, "session", target)
        return
    del state.sessions[target]
    _tell(domain, target, "cleared", session.by)
    text = "the session's time is over: rules apply again"
    domain.note(_about(domain, target), "maintenance_overdue", text)
    _look_at(domain, target)


def _tell(domain: Domain, target: str, now: State, by: str) -> None:
    """Let a session be a fact as well, of which rules may speak: an operator is an authority."""
    if not is_entity(target):
        return
    event = Event(entity=target, signal=REQUESTED, state=now, source=by or "operator")
    for spec in domain.matchers.of(REQUESTED):
        if now == "raised":
            sightings.see(domain, spec, event, spooled=False)
        else:
            sightings.clear(domain, (spec.name, target), event)


def _look_at(domain: Domain, entity: str) -> None:
    """Look again at what stands on an entity, and at incidents that name it or hold any of that."""
    state, here = domain.state, domain.standing.on([entity])
    state.dirty.update(here)
    holding = {state.sightings[key].incident for key in here}
    about = sorted({*domain.standing.naming(entity), *filter(None, holding)})
    domain.unsettle(about)
    for name in about:
        state.dirty.update(domain.standing.held_by(name))
    domain.look_soon()


def _hold(domain: Domain, command: Command) -> None:
    domain.state.hold = command.reason or "held"
    _answer(domain, command, "note", "domain_hold", "")


def _release(domain: Domain, command: Command) -> None:
    domain.state.hold = None
    _answer(domain, command, "note", "domain_release", "")
    for incident_id in sorted(domain.state.incidents):
        incidents.plan(domain, incident_id)


def _set_mode(domain: Domain, command: Command) -> None:
    if command.target not in MODES:
        _no_object(domain, command)
        return
    domain.state.mode = command.target
    _answer(domain, command, "note", "mode_set", "open plans end, and need an approval")
    for _, incident in sorted(domain.state.incidents.items(), key=lambda one: one[0]):
        actions.revoke(domain, incident)
        incident.mode = "dry_run" if command.target == "dry_run" else "approve"
        incident.approval, incident.is_released = "", False


def _approve(domain: Domain, command: Command, incident: IncidentState) -> None:
    incident.approval = "approved"
    incident.is_released = incident.calm_us == HELD
    _answer(domain, command, "note", "approved", f"the plan for {incident.fault[1]}")


def _reject(domain: Domain, command: Command, incident: IncidentState) -> None:
    incident.approval = "rejected"
    actions.revoke(domain, incident)
    _answer(domain, command, "note", "rejected", f"the plan for {incident.fault[1]}")


def _retry(domain: Domain, command: Command, incident: IncidentState) -> None:
    incident.retries += 1
    incident.said.clear()
    _answer(domain, command, "note", "retried", f"what failed for {incident.fault[1]}")


def _about_plan(domain: Domain, command: Command) -> None:
    """Do what a person has decided about the plan of an incident, and plan on."""
    incident = domain.state.incidents.get(command.target)
    if incident is None:
        _no_object(domain, command)
        return
    _OF_PLANS[command.command](domain, command, incident)
    planner.plan(domain, incident)


_OF_PLANS: dict[str, Callable[[Domain, Command, IncidentState], None]] = {
    "approve": _approve,
    "reject": _reject,
    "retry": _retry,
}


def _activate_rules(domain: Domain, command: Command) -> None:
    rules = domain.library.get(command.target.removeprefix("rules:"))
    if rules is None:
        _answer(domain, command, "refuse", "rules_unknown", "this rule set is not loaded")
        return
    domain.activate(rules)
    domain.state.dirty.update(domain.state.sightings)
    domain.look_soon()
    _answer(domain, command, "note", "rules_activated", f"{rules.name} {rules.version}")


def _activate_keys(domain: Domain, command: Command) -> None:
    """Note it: the shell checks signatures before an input comes here, and has changed its keys."""
    _answer(domain, command, "note", "keys_activated", "signatures are checked by these from now")


def _no_object(domain: Domain, command: Command) -> None:
    _answer(domain, command, "refuse", "command_has_no_object", "nothing here waits for it")


_VERBS: dict[str, Callable[[Domain, Command], None]] = {
    "maintenance_start": _maintenance_start,
    "maintenance_end": _maintenance_end,
    "hold": _hold,
    "release": _release,
    "set_mode": _set_mode,
    **dict.fromkeys(_OF_PLANS, _about_plan),
    "activate_rules": _activate_rules,
    "activate_keys": _activate_keys,
}


def _answer(domain: Domain, command: Command, verdict: str, reason: str, text: str) -> None:
    name = f"{command.command} {command.target}"
    words = " ".join(filter(None, [name, f"by {command.by}" if command.by else "", text]))
    said = f"{words} ({command.reason})" if command.reason else words
    domain.note(_about(domain, command.target), reason, said, verdict)


def _about(domain: Domain, target: str) -> str:
    return target if is_entity(target) else domain.name
