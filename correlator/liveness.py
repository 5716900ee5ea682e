"""What should keep coming: signals with a deadline, and the beats of collectors.

A silence is counted on live time and never inside a stream gap: an outage of the log condemns
nobody. Called by the intake and by the deadlines that fall due.
"""

from correlator.domain import Domain
from correlator.sightings import clear, raise_symptom
from correlator.state import SymptomKey
from schemas.inputs import Event, Pulse

COLLECTOR_SILENT = "collector.lost"
COLLECTOR_SILENT_US = 3_000_000
"""A collector beats once a second; three missed beats are a symptom of the collector."""


def beat(domain: Domain, key: SymptomKey, absent_us: int) -> None:
    """Set the deadline of a signal that should keep coming, and came."""
    state = domain.state
    due_us = state.live_us + absent_us
    if key not in state.alive:
        state.wake(due_us, "absent", *key)
    state.alive[key] = due_us
    clear(domain, key)


def miss(domain: Domain, key: SymptomKey) -> None:
    """Raise the symptom of a signal that did not come, unless it came or time stood still."""
    state = domain.state
    due_us = state.alive.get(key)
    if due_us is None:
        return
    due_us = max(due_us, state.gap_until_us)
    if due_us > state.live_us:
        state.wake(due_us, "absent", *key)
        return
    del state.alive[key]
    raise_symptom(domain, key, Event(entity=key[1], signal=key[0], source="correlator:liveness"))


def pulse(domain: Domain, given: Pulse) -> None:
    """Note that a collector lives, and whether its host has booted since."""
    state = domain.state
    seen = state.pulses.get(given.collector)
    boot_id = given.boot_id or ""
    if seen is not None and seen[1] == boot_id and given.seq <= seen[0]:
        state.count("duplicates")
        return
    state.pulses[given.collector] = (given.seq, boot_id)
    if given.host:
        state.heard_us[given.host] = state.live_us
    if given.host and boot_id:
        _boot(domain, given.host, boot_id)
    if COLLECTOR_SILENT in domain.rules.symptoms:
        beat(domain, (COLLECTOR_SILENT, given.collector), COLLECTOR_SILENT_US)


def _boot(domain: Domain, host: str, boot_id: str) -> None:
    before = domain.state.boots.get(host)
    domain.state.boots[host] = boot_id
    if before is not None and before != boot_id:
        domain.state.next_generation(host)
        domain.state.booted_us[host] = domain.state.live_us
        domain.note(host, "boot_observed", f"new boot_id {boot_id}")
        for name, incident in sorted(domain.state.incidents.items(), key=lambda one: one[0]):
            if "not_rebooted" in incident.said.values():
                domain.state.wake(domain.state.live_us, "plan", name)
