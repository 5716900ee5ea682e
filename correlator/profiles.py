"""What a fault shows now: kept from look to look, and brought up to date by what has changed.

Plain data and pure functions of it: symptoms in groups that weigh alike, each with its sorted
first sightings, so that an onset is tried by counting and not by asking every symptom. Keeps: the
same symptoms give the same groups, in whatever order they came.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from correlator.codebook import Fault
from correlator.rules.ruleset import CellSpec
from correlator.state import SymptomKey

Group = tuple[int, str, float]
"""(cell, kind of the entity, chance to see it without a cause): its symptoms weigh alike."""
Place = tuple[int, str]
"""(cell, kind of the entity)."""
Shown = tuple[SymptomKey, Group, int, bool]
"""(symptom, its group, first sighting, whether it still stands)."""

CROWD = 64
"""Entities that a fault shows on from which on its onset is sought anew as time goes."""
ONSETS = 6
"""Onsets tried for a crowd at a time: quantiles of its first sightings."""


@dataclass(slots=True)
class Profile:
    """All standing symptoms of one fault, timely or not, and how they weighed when last asked."""

    fault: Fault
    totals: dict[Place, int]
    """Entities that a cell addresses, by their kind."""
    footprint: int
    """Entities on which it could show anything."""
    entries: dict[SymptomKey, tuple[Group, int, bool]] = field(default_factory=dict)
    """symptom → its group, first sighting, and whether it still stands."""
    standing: dict[Place, int] = field(default_factory=dict)
    """place → symptoms there that still stand."""
    times: dict[Group, list[int]] = field(default_factory=dict)
    """group → first sightings, sorted."""
    stale: dict[SymptomKey, None] = field(default_factory=dict)
    """Symptoms that came, went or weigh otherwise since the entries were brought up to date."""
    is_weighed: bool = False
    """What follows holds for the entries as they are."""
    sought_us: int = -1
    """Up to when silence was counted in when the onset of a crowd was last sought."""
    onset_us: int = 0
    missing: list[tuple[CellSpec, int, int]] = field(default_factory=list)
    """(cell, entities of a kind on which it is expected and not seen, of how many)."""
    final_us: int = 0
    """Age from which its silence has said all."""
    alone: float = 0.0
    """Nats its timely symptoms are worth where nothing else explains them."""
    part: "Profile | None" = None
    """What it shows of late beside others: the symptoms that were free when last asked."""
    whole: "Candidate | None" = None
    """The fault with none of its symptoms granted to others, as last weighed."""

    def put(self, shown: Iterable[Shown]) -> None:
        """Add symptoms."""
        added: dict[Group, tuple[list[int], list[SymptomKey]]] = {}
        entries, standing = self.entries, self.standing
        for key, group, first_us, stands in shown:
            entries[key] = group, first_us, stands
            alike = added.get(group)
            if alike is None:
                alike = added[group] = [], []
            alike[0].append(first_us)
            if stands:
                alike[1].append(key)
        for group, (firsts_us, stood) in added.items():
            listed = self.times.setdefault(group, [])
            listed += firsts_us
            listed.sort()
            if stood:
                standing[group[:2]] = standing.get(group[:2], 0) + len(stood)
        if added:
            self.is_weighed, self.part = False, None

    def take(self, keys: Iterable[SymptomKey]) -> None:
        """Take symptoms out, those that are there."""
        taken: dict[Group, list[int]] = {}
        standing = self.standing
        for key in keys:
            group, first_us, stood = self.entries.pop(key, (None, 0, False))
            if group is not None:
                taken.setdefault(group, []).append(first_us)
                standing[group[:2]] = standing.get(group[:2], 0) - stood
        for group, firsts_us in taken.items():
            listed = self.times[group]
            if len(firsts_us) == len(listed):
                del self.times[group]
                continue
            for first_us in firsts_us:
                del listed[bisect_left(listed, first_us)]
        if taken:
            self.is_weighed, self.part = False, None

    def beside(self, free: list[SymptomKey]) -> "Profile":
        """Return what is left of it beside others: its free symptoms, granted ones not expected.

        A granted symptom that has ended would stand again: it is expected as any other.
        """
        part = Profile(self.fault, dict(self.totals), self.footprint)
        part.put((key, *self.entries[key]) for key in free)
        for place, count in self.standing.items():
            granted = count - part.standing.get(place, 0)
            if granted:
                part.totals[place] = part.totals.get(place, 0) - granted
        return part


@dataclass(slots=True)
class Candidate:
    """One fault as seen in a look: its timely symptoms and what its silence costs."""

    profile: Profile
    support: dict[SymptomKey, float] = field(default_factory=dict)
    """timely symptom → p of its cell."""
    optional: dict[SymptomKey, float] = field(default_factory=dict)
    """timely symptom of an optional cell → p."""
    late: dict[SymptomKey, float] = field(default_factory=dict)
    """symptom outside the window of this onset → p: explained, but no support."""
    shows: dict[SymptomKey, float] = field(default_factory=dict)
    """all of the above together: what it explains."""
    is_beside: bool = False
    """Some of its symptoms are granted to others, and left out of all this."""
    base: float = 0.0
    """log prior odds and what its silence costs by now."""
    gain: float = 0.0
    """base and what its symptoms are worth where nothing else explains them."""

    @property
    def fault(self) -> Fault:
        """The signature and the entity."""
        return self.profile.fault

    @property
    def onset_us(self) -> int:
        """When it began."""
        return self.profile.onset_us

    @property
    def explains(self) -> set[SymptomKey]:
        """The timely symptoms, expected and optional ones."""
        return {*self.support, *self.optional}


def timely(
    times: dict[Group, list[int]], cells: tuple[CellSpec, ...], onset_us: int, lateness_us: int
) -> Iterator[tuple[Group, int]]:
    """Yield how many symptoms of each group came in the window of an onset, in order."""
    for group in sorted(times):
        until_us = onset_us + cells[group[0]].within_us + lateness_us
        listed = times[group]
        count = bisect_right(listed, until_us) - bisect_left(listed, onset_us)
        if count:
            yield group, count


def likeliest(every: list[int], fit: Callable[[int], float]) -> int:
    """Return the first sighting, of sorted ones, that fits best as the onset of a crowd.

    Quantiles are tried first, then those around the best of them; of equals the last is taken.
    """
    low, high = 0, len(every)
    fits: dict[int, float] = {}
    while True:
        tried = sorted({low + (high - low) * step // ONSETS for step in range(ONSETS)})
        fits |= {place: fit(every[place]) for place in tried if place not in fits}
        best = max(range(len(tried)), key=lambda one: (fits[tried[one]], one))
        if high - low <= ONSETS:
            return every[tried[best]]
        low = tried[max(0, best - 1)]
        high = tried[best + 1] if best + 1 < len(tried) else high


def heaviest_onset(turns: list[tuple[int, int, float]], narrowest_us: float) -> int:
    """Return the onset for which the timely symptoms weigh most, the last of equals.

    `turns` hold (first sighting, length of its window, weight) of each symptom. An old one does
    not date a new fault: each speaks for the onsets from its own window before its first sighting
    up to that sighting. `narrowest_us` is the shortest of the windows. O(n log n).
    """
    earliest_us = min(first_us for first_us, _, _ in turns)
    if max(first_us for first_us, _, _ in turns) - earliest_us <= narrowest_us:
        return earliest_us
    edges = [(first_us - window_us, 0, weight) for first_us, window_us, weight in turns]
    edges += [(first_us, 1, weight) for first_us, _, weight in turns]
    best_us, best, weight_now = earliest_us, -math.inf, 0.0
    for at_us, ends, weight in sorted(edges):
        if ends and weight_now >= best - 1e-9:
            best_us, best = at_us, weight_now
        weight_now += -weight if ends else weight
    return best_us
