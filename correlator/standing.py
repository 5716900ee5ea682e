"""What stands, by fault, by incident and by entity: look-ups that keep a step off the whole state.

Worked out from sightings, incidents and codebook; never part of a snapshot. Called by everything
that raises, clears or explains a symptom. Keeps: it holds exactly the keys of the sightings.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from correlator.codebook import Fault
from correlator.profiles import Profile
from correlator.state import Sighting, SymptomKey

T = TypeVar("T")
SETTLED = 7.0
"""Nats by which a cause must have held for others to be weighed as given it: odds of 1,000 to 1."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The cause of an incident, while it is taken for granted."""

    fault: Fault
    onset_us: int
    weighed_us: int
    """When it was last weighed against all that stood."""
    margin: float
    """Nats by which it then held against every explanation without its entity."""


class Standing:
    """The symptoms that are known now, found from three sides."""

    def __init__(self) -> None:
        self.support: dict[Fault, dict[SymptomKey, None]] = {}
        """fault → the symptoms it may show."""
        self.evidence: dict[str, set[SymptomKey]] = {}
        """incident id → the symptoms it holds."""
        self.at: dict[str, set[SymptomKey]] = {}
        """entity → the symptoms on it."""
        self._roots: dict[str, set[str]] = {}
        """entity → the open incidents that name it as their cause."""
        self.profiles: dict[Fault, Profile | None] = {}
        """fault → what it showed when last asked, None where it could not be."""
        self.settled: dict[str, Settled] = {}
        """incident id → its cause, while that is granted."""
        self.free: set[SymptomKey] = set()
        """the symptoms that no incident with a granted cause holds."""
        self._ended: set[SymptomKey] = set()
        """the symptoms that stand no more, and are not forgotten yet."""
        self._faults: dict[SymptomKey, tuple[Fault, ...]] = {}

    def add(self, key: SymptomKey, causes: tuple[Fault, ...], *, stands: bool) -> None:
        """Know a symptom by the faults that show it, in place of those known before."""
        self._unsupport(key)
        self.at.setdefault(key[1], set()).add(key)
        if key not in self._faults:
            self.free.add(key)
        self._faults[key] = causes
        self.turned(key, stands=stands)
        support = self.support
        for fault in causes:
            shown = support.get(fault)
            if shown is None:
                support[fault] = {key: None}
            else:
                shown[key] = None

    def causes(self, key: SymptomKey) -> tuple[Fault, ...]:
        """Return the faults that a symptom is known by."""
        return self._faults.get(key, ())

    def remove(self, key: SymptomKey, incident_id: str | None) -> None:
        """Forget a symptom, and that an incident held it."""
        self._unsupport(key)
        self._faults.pop(key, None)
        _discard(self.at, key[1], key)
        self.own(key, incident_id, None)
        self.free.discard(key)
        self._ended.discard(key)

    def own(self, key: SymptomKey, before: str | None, now: str | None) -> None:
        """Move a symptom from one incident to another; None is no incident."""
        if before is not None:
            _discard(self.evidence, before, key)
        if now is not None:
            self.evidence.setdefault(now, set()).add(key)
        if now in self.settled:
            self.free.discard(key)
        else:
            self.free.add(key)

    def settle(self, incident_id: str, cause: Settled | None) -> None:
        """Grant the cause of an incident from now on, or grant it no longer."""
        held = self.evidence.get(incident_id, set())
        if cause is not None:
            self.settled[incident_id] = cause
            self.free -= held
        elif self.settled.pop(incident_id, None):
            self.free |= held

    def settled_at(self, entity: str) -> list[str]:
        """Return the incidents whose granted cause is a fault of an entity, sorted."""
        names = self._roots.get(entity)
        return sorted(names & self.settled.keys()) if names else []

    def settled_as(self, fault: Fault) -> list[str]:
        """Return the incidents whose granted cause is a fault, sorted."""
        return [name for name in self.settled_at(fault[1]) if self.settled[name].fault == fault]

    def free_of(self, entries: Mapping[SymptomKey, object]) -> list[SymptomKey] | None:
        """Return those of some symptoms that are free, sorted; None where all of them are."""
        if not self.settled:
            return None
        free = entries.keys() & self.free
        return None if len(free) == len(entries) else sorted(free)

    def name(self, incident_id: str, before: str | None, now: str | None) -> None:
        """Know the cause that an incident names in place of another; None is no cause."""
        if before is not None:
            _discard(self._roots, before, incident_id)
        if now is not None:
            self._roots.setdefault(now, set()).add(incident_id)

    def naming(self, entity: str) -> list[str]:
        """Return the open incidents that name an entity as their cause, sorted."""
        names = self._roots.get(entity)
        return sorted(names) if names else []

    def is_recovering(
        self, incident_id: str, sightings: Mapping[SymptomKey, Sighting], since_us: int
    ) -> bool:
        """Claim that most of what an incident held had ended by a time: news is of other things.

        What is left of it mostly stands because nobody said that it ended.
        """
        held = self.evidence.get(incident_id, set())
        ends = (sightings[key].cleared_us for key in held & self._ended)
        return 2 * sum(end is not None and end <= since_us for end in ends) > len(held)

    def held_by(self, incident_id: str) -> list[SymptomKey]:
        """Return the symptoms of an incident, sorted."""
        return sorted(self.evidence.get(incident_id, ()))

    def on(self, entities: Iterable[str]) -> list[SymptomKey]:
        """Return the symptoms on some entities, sorted."""
        return sorted(key for entity in entities for key in self.at.get(entity, ()))

    def turned(self, key: SymptomKey, *, stands: bool) -> None:
        """Know that a symptom ended, or stands again."""
        (self._ended.discard if stands else self._ended.add)(key)
        self.changed(key)

    def changed(self, key: SymptomKey) -> None:
        """Know that a symptom came, went, or weighs otherwise."""
        for fault in self._faults.get(key, ()):
            profile = self.profiles.get(fault)
            if profile is None:
                self.profiles.pop(fault, None)
            else:
                profile.stale[key] = None

    def _unsupport(self, key: SymptomKey) -> None:
        self.changed(key)
        for fault in self._faults.get(key, ()):
            shown = self.support[fault]
            del shown[key]
            if not shown:
                del self.support[fault]
                self.profiles.pop(fault, None)


def _discard(table: dict[str, set[T]], name: str, member: T) -> None:
    table[name].discard(member)
    if not table[name]:
        del table[name]
