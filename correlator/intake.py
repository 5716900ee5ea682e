"""Events, levels and verdicts → symptoms raised and cleared.

Each is put to the rules that listen to its signal; a duplicate changes nothing. Called by the
engine, once per input.
"""

from correlator import edits, liveness, results, shared
from correlator.domain import Domain
from correlator.sightings import bear_witness, clear, date_back, doubt, see
from correlator.symptoms import means
from correlator.targets import STOPPED_BY_USER
from schemas.inputs import Event, Fact, Level, State, Verdict

LEVEL_FACTS_MAX = 10_000
"""Facts one source may list; the rest is counted and left."""
VERDICTS: dict[str, dict[str, State]] = {
    "verdict.failed": {"failed": "raised", "working": "cleared"},
    "verdict.working": {"failed": "cleared", "working": "raised"},
}
"""Signal → what each word of the region says of it; another word leaves it unknown."""
REGION = "region"
"""Source of its words."""


def event(domain: Domain, given: Event, *, spooled: bool = False) -> None:
    """Take in one change of state."""
    state = domain.state
    specs = domain.matchers.of(given.signal)
    beats = domain.matchers.absent.get(given.signal, ())
    heals = given.state == "raised" and state.topology.heals(given.entity)
    if not specs and not beats and not heals:
        state.count("unmatched")
        return
    if given.event_id is not None and state.is_duplicate(given.event_id):
        state.count("duplicates")
        return
    if heals:
        edits.heal(domain, given)
    for spec in beats:
        liveness.beat(domain, (spec.name, given.entity), spec.absent_us)
    for spec in specs:
        meaning = means(spec, given)
        if meaning:
            see(domain, spec, given, spooled=spooled)
        elif meaning is False:
            clear(domain, (spec.name, given.entity), given, spooled=spooled)
        else:
            doubt(domain, (spec.name, given.entity), given)
    _react(domain, given)


def _react(domain: Domain, given: Event) -> None:
    """Do at once what needs no cause: what a user has stopped is no longer started."""
    if given.signal == STOPPED_BY_USER and domain.stands((STOPPED_BY_USER, given.entity)):
        results.let_be(domain, given.entity)


def level(domain: Domain, given: Level) -> None:
    """Take in all that a source has raised: an equal fact refreshes, a missing one clears."""
    state = domain.state
    facts = given.facts[:LEVEL_FACTS_MAX]
    if len(given.facts) > len(facts):
        state.count("level_facts_left", len(given.facts) - len(facts))
    now = sorted({(fact.signal, fact.entity) for fact in facts})
    before = set(state.levels.get(given.source, ()))
    for fact in facts:
        known = (fact.signal, fact.entity) in before
        raised = _as_event(fact, given.source)
        if not (known and _refreshed(domain, raised)):
            event(domain, raised)
            _date_back(domain, fact, given.source)
    for signal, entity in sorted(before.difference(now)):
        event(domain, Event(entity=entity, signal=signal, state="cleared", source=given.source))
    state.levels[given.source] = now


def _date_back(domain: Domain, fact: Fact, source: str) -> None:
    """Say of what a list tells for the first time since when it stands."""
    if fact.since is not None:
        for spec in domain.matchers.of(fact.signal):
            date_back(domain, (spec.name, fact.entity), source, fact.since)


def _as_event(fact: Fact, source: str) -> Event:
    return Event(
        entity=fact.entity,
        signal=fact.signal,
        severity=fact.severity,
        source=source,
        attrs=fact.attrs,
    )


def _refreshed(domain: Domain, raised: Event) -> bool:
    """An equal fact refreshes: no second sighting. Claim that it was known already."""
    known = False
    for spec in domain.matchers.of(raised.signal):
        key = (spec.name, raised.entity)
        if domain.stands(key) and means(spec, raised):
            sighting = domain.state.sightings[key]
            sighting.last_us = domain.state.live_us
            if raised.source in sighting.witnesses:
                bear_witness(domain, sighting, str(raised.source))
            known = True
    return known


def verdict(domain: Domain, given: Verdict) -> None:
    """Take in the region's word on a shared resource, as events about it as well."""
    if shared.hear(domain, given):
        _show_word(domain, given.resource, given.state)


def word_over(domain: Domain, resource: str) -> None:
    """A word of the region says nothing any more, if none came since."""
    if shared.word(domain.state, resource) == "unknown":
        _show_word(domain, resource, "unknown")


def _show_word(domain: Domain, resource: str, word: str) -> None:
    for signal, states in VERDICTS.items():
        state = states.get(word, "unknown")
        event(domain, Event(entity=resource, signal=signal, state=state, source=REGION))
