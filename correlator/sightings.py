"""The life of a symptom: raised, seen again, cleared, and in the end forgotten.

Called by the intake of events and by liveness; decides nothing about causes.
"""

from collections import deque
from datetime import datetime
from typing import NamedTuple

from correlator.domain import Domain
from correlator.rules.paths import walk
from correlator.rules.ruleset import SymptomSpec
from correlator.state import KEPT_MAX, Clear, Sighting, SymptomKey
from correlator.symptoms import enough
from schemas.base import to_microseconds
from schemas.inputs import Event

EXPECTED_P = 0.5
"""A cell at least this sure makes its symptom no news to an incident that names the fault."""
SURE = 0.999
"""Confidence above which no policy waits for more."""
LIST_US = 90_000_000
"""Three lists of the slowest kind, for lists are lost too; what claims to be older may come from a
clock that was set."""
TOLD_MAX = 16
"""Sources of a symptom whose last stamp is kept: a host is watched by about ten."""
CORROBORATED = 2
"""The sighting that makes chance less likely."""
AWAITING = frozenset({"one_witness", "one_plane", "cool_down", "no_dump", "unfenceable"})
"""Reasons of a plan that one more witness, or one more fact, may end."""


class _Word(NamedTuple):
    """Who says an event, when by his own clock, and over which network."""

    source: str
    at_us: int | None
    plane: str
    """Empty where it names none."""


def _word(event: Event) -> _Word:
    at, attrs = event.at, event.attrs
    at_us = None if at is None else to_microseconds(at)
    return _Word(_source(event), at_us, str(attrs.get("plane", "")) if attrs else "")


def see(domain: Domain, spec: SymptomSpec, event: Event, *, spooled: bool) -> None:
    """Take in an event that speaks for a symptom; a rule that counts may ask for more of them."""
    state = domain.state
    key = (spec.name, event.entity)
    if spec.changes > 1:
        window = state.windows.setdefault(key, deque())
        if spec.quiet_us is not None:
            state.wake(state.live_us + spec.quiet_us, "quiet", *key)
        if not enough(spec, window, state.live_us):
            return
    raise_symptom(domain, key, event, spooled=spooled)


def raise_symptom(domain: Domain, key: SymptomKey, event: Event, *, spooled: bool = False) -> None:
    """Let a symptom stand, unless what its rule names excuses it."""
    state = domain.state
    spec = domain.rules.symptoms[key[0]]
    if spec.unless_symptom and _excused(domain, spec, key[1]):
        state.count("excused")
        return
    word, sighting = _word(event), state.sightings.get(key)
    if sighting is None:
        sighting = _first(domain, key, word, spooled=spooled)
    elif _is_same(sighting, word):
        sighting.last_us = state.live_us
        return
    elif _is_older(domain, sighting.stamps, word, spooled=spooled):
        if not _is_told(sighting, word):
            _seen_again(domain, key, sighting)
        return
    else:
        _again(domain, key, sighting, word)
    sighting.is_unknown = False
    _keep_id(sighting, event)
    if not spooled:
        if event.source:
            _keep_time(domain, word)
        _testify(domain, key, sighting, word)
    _awaited(domain, key[0])


def _testify(domain: Domain, key: SymptomKey, sighting: Sighting, word: _Word) -> None:
    """Know from now on who sees a symptom, and over which network."""
    source, plane, known = word.source, word.plane, len(sighting.witnesses)
    is_new = source not in sighting.witnesses
    if is_new:
        if known >= KEPT_MAX:
            return
        sighting.witnesses[source] = domain.state.live_us
    if plane:
        over = sighting.planes.setdefault(plane, [])
        if source not in over:
            over.append(source)
            is_new = True
    if len(sighting.witnesses) != known:
        domain.retold(key)
    if is_new:
        _witnessed(domain, sighting)
    bear_witness(domain, sighting, source)


def _witnessed(domain: Domain, sighting: Sighting) -> None:
    """Ask for a plan anew that waited for one more witness, or for a fact."""
    incident = domain.state.incidents.get(sighting.incident or "")
    if incident is not None and not AWAITING.isdisjoint(incident.said.values()):
        domain.state.wake(domain.state.live_us, "plan", incident.incident_id)


def bear_witness(domain: Domain, sighting: Sighting, source: str) -> None:
    """Note when a witness last told of a symptom; a plan that is confirmed anew asks for that."""
    sighting.told_us[source] = domain.state.live_us
    incident = domain.state.incidents.get(sighting.incident or "")
    if incident is None or incident.calm_us is None:
        return
    if "cool_down" in incident.said.values():
        domain.state.wake(domain.state.live_us, "plan", incident.incident_id)


def _awaited(domain: Domain, symptom: str) -> None:
    """Ask for the plans anew of which a step comes when a symptom is known."""
    causes = domain.awaiting.get(symptom)
    if causes is None:
        return
    for name, incident in sorted(domain.state.incidents.items(), key=lambda one: one[0]):
        if incident.fault[0] in causes or "*" in causes:
            domain.state.wake(domain.state.live_us, "plan", name)


def doubt(domain: Domain, key: SymptomKey, event: Event) -> None:
    """A source knows no longer: it is no witness; where it was the only one, nobody knows (H23)."""
    sighting = domain.state.sightings.get(key)
    if sighting is None or event.state != "unknown":
        return
    source = _source(event)
    if sighting.witnesses.pop(source, None) is not None:
        domain.retold(key)
    sighting.told_us.pop(source, None)
    sighting.is_unknown = not sighting.witnesses


def _source(event: Event) -> str:
    return event.source or event.entity


def _observer(source: str) -> str:
    """Return who tells, in whichever way: his clock is one."""
    return source.partition("/")[0]


def _keep_time(domain: Domain, word: _Word) -> None:
    """Learn how far an observer's clock is behind the log's: his quickest word comes nearest."""
    if word.at_us is not None:
        behind_us, clocks = domain.state.log_us - word.at_us, domain.state.clocks
        observer = _observer(word.source)
        if behind_us < clocks.get(observer, behind_us + 1):
            clocks[observer] = behind_us


def date_back(domain: Domain, key: SymptomKey, source: str, since: datetime) -> None:
    """Let a symptom that a list tells first have begun when the list says: that word was lost.

    Counted on the source's own clock as it was seen to go, and for no longer than lists lie apart.
    """
    state, sighting = domain.state, domain.state.sightings.get(key)
    behind_us = state.clocks.get(_observer(source))
    if sighting is None or sighting.first_us != state.live_us or behind_us is None:
        return
    age_us = state.log_us - behind_us - to_microseconds(since)
    sighting.first_us -= min(max(0, age_us), LIST_US)
    domain.standing.changed(key)


def _is_same(sighting: Sighting, word: _Word) -> bool:
    """Claim that an event is the one its source told last, on its way twice: no second sighting."""
    is_latest = word.at_us is not None and sighting.stamps.get(word.source) == word.at_us
    return is_latest and sighting.cleared_us is None and _is_told(sighting, word)


def _is_told(sighting: Sighting, word: _Word) -> bool:
    """Claim that a source has told a symptom already, of the same network."""
    told = sighting.planes.get(word.plane, ()) if word.plane else sighting.witnesses
    return word.source in told


def _is_older(
    domain: Domain, stamps: dict[str, int], word: _Word, *, spooled: bool = False
) -> bool:
    """Claim that an event was told before what its source told last, and overtaken by that.

    Nothing live is overtaken by more than the lateness: then the clock was set back (H24).
    """
    last_us, at_us = stamps.get(word.source), word.at_us
    if last_us is None or at_us is None or at_us >= last_us:
        return False
    return spooled or last_us - at_us <= domain.knob_us["lateness"]


def _date(stamps: dict[str, int], word: _Word) -> None:
    """Keep when a source last spoke; of too many the one with the oldest stamp is forgotten."""
    if word.at_us is None:
        return
    stamps[word.source] = word.at_us
    if len(stamps) > TOLD_MAX:
        del stamps[min(stamps, key=lambda source: (stamps[source], source))]


def _first(domain: Domain, key: SymptomKey, word: _Word, *, spooled: bool) -> Sighting:
    """Begin a symptom; where its clear has come already, end it at once."""
    state = domain.state
    sighting = Sighting(state.live_us, state.live_us, word.source)
    before = state.overtaking.pop(key, None)
    if before is not None and _is_older(domain, before.stamps, word, spooled=spooled):
        sighting.cleared_us, sighting.stamps = state.live_us, before.stamps
    else:
        _date(sighting.stamps, word)
    domain.add(key, sighting)
    state.wake(domain.ends_us(sighting), "expire", *key)
    holder = _expected_by(domain, key)
    if holder is None:
        domain.mark(key)
    else:
        domain.own(key, holder)
    return sighting


def _expected_by(domain: Domain, key: SymptomKey) -> str | None:
    """Return the open incident whose cause was sure to show a symptom about now, if there is one.

    What is expected asks for no look: in a storm nearly everything is. It weighs at the next one,
    and each incident is looked at once more when silence has said all.
    """
    rules = domain.rules
    naming = domain.standing.naming
    for fault in domain.codebook.causes(*key):
        for incident_id in naming(fault[1]):
            incident = domain.state.incidents[incident_id]
            signature = rules.signatures[fault[0]]
            if incident.fault[0] != signature.name or incident.confidence < SURE:
                continue
            index = domain.codebook.cell_of(fault, *key)
            cell = signature.cells[index] if index is not None else None
            if cell is None or cell.optional or cell.p < EXPECTED_P:
                continue
            latest_us = incident.onset_us + cell.within_us + domain.knob_us["lateness"]
            if domain.state.live_us <= latest_us:
                return incident_id
    return None


def _keep_id(sighting: Sighting, event: Event) -> None:
    if event.event_id and len(sighting.event_ids) < KEPT_MAX:
        sighting.event_ids.append(event.event_id)


def _excused(domain: Domain, spec: SymptomSpec, entity: str) -> bool:
    return any(
        domain.stands((str(spec.unless_symptom), node))
        for node in walk(domain.state.topology, entity, spec.unless_path)
    )


def _again(domain: Domain, key: SymptomKey, sighting: Sighting, word: _Word) -> None:
    _date(sighting.stamps, word)
    if sighting.cleared_us is not None:
        _returned(domain, key, sighting, word.source)
    _seen_again(domain, key, sighting)


def _seen_again(domain: Domain, key: SymptomKey, sighting: Sighting) -> None:
    sighting.last_us = domain.state.live_us
    sighting.count += 1
    if sighting.count == CORROBORATED and domain.rules.knobs.resighting < 1.0:
        domain.standing.changed(key)
        if sighting.incident is None:
            domain.mark(key)


def _returned(domain: Domain, key: SymptomKey, sighting: Sighting, source: str) -> None:
    """A symptom stands again: who saw it before it ended bears no witness to this (I3)."""
    gone_us = domain.state.live_us - (sighting.cleared_us or 0)
    over = _is_over(domain, sighting.incident, gone_us) or not domain.is_shown(key)
    sighting.cleared_us = None
    domain.standing.turned(key, stands=True)
    sighting.witnesses.clear()
    sighting.told_us.clear()
    sighting.planes.clear()
    if over:
        _anew(domain, key, sighting, source)


def _is_over(domain: Domain, incident_id: str | None, gone_us: int) -> bool:
    """Claim that what a symptom stood for had ended before it came back."""
    if incident_id is None or gone_us >= 2 * domain.knob_us["settle"]:
        return True
    if gone_us < domain.knob_us["lateness"]:
        return False
    return not any(domain.stands(key) for key in domain.standing.evidence.get(incident_id, ()))


def _anew(domain: Domain, key: SymptomKey, sighting: Sighting, source: str) -> None:
    """A symptom that had been gone is the first of something new, not more of the old."""
    sighting.first_us = sighting.last_us = domain.state.live_us
    sighting.count = 0
    sighting.source = source
    if sighting.incident is not None:
        domain.check_end(sighting.incident, domain.state.live_us)
        domain.own(key, None)
    domain.mark(key)


def clear(
    domain: Domain, key: SymptomKey, event: Event | None = None, *, spooled: bool = False
) -> None:
    """Let a symptom end; it is forgotten, or its incident closed, once things have settled."""
    state = domain.state
    sighting = state.sightings.get(key)
    if sighting is None:
        _remember_clear(domain, key, event)
        return
    if event is not None:
        word = _word(event)
        if _is_older(domain, sighting.stamps, word, spooled=spooled):
            state.count("overtaken")
            return
        _date(sighting.stamps, word)
    if sighting.cleared_us is None:
        _end(domain, key, sighting, event)


def _end(domain: Domain, key: SymptomKey, sighting: Sighting, event: Event | None) -> None:
    sighting.cleared_us, sighting.is_unknown = domain.state.live_us, False
    domain.standing.turned(key, stands=False)
    _awaited(domain, key[0])
    if sighting.incident:
        domain.check_end(sighting.incident, domain.ends_us(sighting))
    else:
        domain.state.wake(domain.ends_us(sighting), "expire", *key)
    if event is not None:
        _keep_id(sighting, event)


def _remember_clear(domain: Domain, key: SymptomKey, event: Event | None) -> None:
    """Keep a clear that nothing stood for as long as its raise may come late."""
    state = domain.state
    if event is None or event.at is None:
        return
    if key not in state.overtaking:
        state.wake(state.live_us + domain.knob_us["lateness"], "overtaking", *key)
    kept = state.overtaking.setdefault(key, Clear(state.live_us))
    kept.came_us = state.live_us
    _date(kept.stamps, _word(event))


def forget_clear(domain: Domain, key: SymptomKey) -> None:
    """Forget a clear once its raise would be too late."""
    kept = domain.state.overtaking.get(key)
    if kept is None:
        return
    until_us = kept.came_us + domain.knob_us["lateness"]
    if until_us <= domain.state.live_us:
        del domain.state.overtaking[key]
    else:
        domain.state.wake(until_us, "overtaking", *key)


def clear_if_quiet(domain: Domain, key: SymptomKey) -> None:
    """End a counted symptom when nothing has matched for as long as its rule says."""
    window = domain.state.windows.get(key)
    spec = domain.rules.symptoms.get(key[0])
    if not window or spec is None or spec.quiet_us is None:
        return
    if window[-1] + spec.quiet_us <= domain.state.live_us:
        del domain.state.windows[key]
        clear(domain, key)


def expire(domain: Domain, key: SymptomKey) -> None:
    """Forget a symptom that no incident holds and that has ended, or was not seen again."""
    sighting = domain.state.sightings.get(key)
    if sighting is None or sighting.incident is not None:
        return
    ends_us = domain.ends_us(sighting)
    if ends_us <= domain.state.live_us:
        domain.drop(key)
    else:
        domain.state.wake(ends_us, "expire", *key)
