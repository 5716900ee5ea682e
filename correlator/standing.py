"""What stands, by fault, by incident and by entity: look-ups that keep a step off the whole state.

Worked out from sightings, incidents and codebook; never part of a snapshot. Called by everything
that raises, clears or explains a symptom. Keeps: it holds exactly the keys of the sightings.
"""

from collections.abc import Iterable
from typing import TypeVar

from correlator.codebook import Cause, Fault
from correlator.inference import Candidate
from correlator.state import SymptomKey

T = TypeVar("T")


class Standing:
    """The symptoms that are known now, found from three sides."""

    def __init__(self) -> None:
        self.support: dict[Fault, dict[SymptomKey, int]] = {}
        """fault → the symptoms it shows → index of the cell."""
        self.evidence: dict[str, set[SymptomKey]] = {}
        """incident id → the symptoms it holds."""
        self.at: dict[str, set[SymptomKey]] = {}
        """entity → the symptoms on it."""
        self._roots: dict[str, set[str]] = {}
        """entity → the open incidents that name it as their cause."""
        self.candidates: dict[Fault, Candidate | None] = {}
        """fault → how its symptoms weighed when one last changed, None where it cannot be."""
        self._faults: dict[SymptomKey, tuple[Fault, ...]] = {}

    def add(self, key: SymptomKey, causes: tuple[Cause, ...]) -> None:
        """Know a symptom by the faults that show it, in place of those known before."""
        self._unsupport(key)
        self.at.setdefault(key[1], set()).add(key)
        self._faults[key] = tuple(fault for fault, _ in causes)
        self.changed(key)
        for fault, cell in causes:
            self.support.setdefault(fault, {})[key] = cell

    def remove(self, key: SymptomKey, incident_id: str | None) -> None:
        """Forget a symptom, and that an incident held it."""
        self._unsupport(key)
        self._faults.pop(key, None)
        _discard(self.at, key[1], key)
        self.own(key, incident_id, None)

    def own(self, key: SymptomKey, before: str | None, now: str | None) -> None:
        """Move a symptom from one incident to another; None is no incident."""
        if before is not None:
            _discard(self.evidence, before, key)
        if now is not None:
            self.evidence.setdefault(now, set()).add(key)

    def name(self, incident_id: str, before: str | None, now: str | None) -> None:
        """Know the cause that an incident names in place of another; None is no cause."""
        if before is not None:
            _discard(self._roots, before, incident_id)
        if now is not None:
            self._roots.setdefault(now, set()).add(incident_id)

    def naming(self, entity: str) -> list[str]:
        """Return the open incidents that name an entity as their cause, sorted."""
        return sorted(self._roots.get(entity, ()))

    def held_by(self, incident_id: str) -> list[SymptomKey]:
        """Return the symptoms of an incident, sorted."""
        return sorted(self.evidence.get(incident_id, ()))

    def on(self, entities: Iterable[str]) -> list[SymptomKey]:
        """Return the symptoms on some entities, sorted."""
        return sorted(key for entity in entities for key in self.at.get(entity, ()))

    def changed(self, key: SymptomKey) -> None:
        """Know that a symptom began anew or was corroborated: its faults weigh otherwise now."""
        for fault in self._faults.get(key, ()):
            self.candidates.pop(fault, None)

    def _unsupport(self, key: SymptomKey) -> None:
        self.changed(key)
        for fault in self._faults.get(key, ()):
            shown = self.support[fault]
            del shown[key]
            if not shown:
                del self.support[fault]


def _discard(table: dict[str, set[T]], name: str, member: T) -> None:
    table[name].discard(member)
    if not table[name]:
        del table[name]
