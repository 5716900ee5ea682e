"""How heavy each fault is now, by itself: its timely symptoms, its silence, and what is granted.

Pure functions of a codebook, the sightings and the time. Positive and negative evidence as in
Steinder and Sethi (IM'03), the bipartite noisy-OR of Shrink and Spotlight. Scores are natural
logarithms (nats). What a sure incident explains is *granted*: others are weighed as given it, so a
look costs what is news and not what stands.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, repeat
from operator import add, sub, truediv

from correlator.codebook import Codebook, Fault
from correlator.profiles import (
    CROWD,
    Candidate,
    Place,
    Profile,
    Shown,
    heaviest_onset,
    likeliest,
    timely,
)
from correlator.rules.ruleset import CellSpec, RuleSet
from correlator.standing import SETTLED, Settled, Standing
from correlator.state import Sighting, SymptomKey
from schemas.base import kind_of

SEEK_STEP_US = 1_000_000
"""Silence dates a crowd anew once a second; what comes or goes does so at once."""
ROUNDING = 1e-6
"""Nats by which a bound must be missed: sums in another order differ by less."""
Q_MAX = 0.999999
"""No symptom is ever explained so well that another cause could add nothing at all."""


class Look:
    """One look at what stands; holds what its functions share."""

    def __init__(
        self,
        codebook: Codebook,
        sightings: dict[SymptomKey, Sighting],
        now_us: int,
        standing: Standing,
    ) -> None:
        self.codebook = codebook
        self.rules: RuleSet = codebook.rules
        self.knobs = codebook.rules.knobs
        self.sightings = sightings
        self.now_us = now_us
        self.standing = standing
        self.least = min(self.knobs.gain_min, self.knobs.gain_first)
        """nats a fault must exceed, alone, to be considered at all"""
        self._granted: dict[SymptomKey, tuple[str, float] | None] = {}
        self._recovering: dict[str, bool] = {}
        self._seek_us = now_us - now_us % SEEK_STEP_US
        self._lateness_us = self.rules.lateness_us
        self._settle_us = round(self.knobs.settle * 1e6)
        self._priors = [math.log(s.prior) - math.log1p(-s.prior) for s in self.rules.signatures]

    def leak(self, key: SymptomKey) -> float:
        """Return the chance to see a symptom with no cause at all."""
        sighting = self.sightings[key]
        spurious = self.rules.symptoms[key[0]].spurious
        return spurious * self.knobs.resighting if sighting.count > 1 else spurious

    def candidate(self, fault: Fault) -> tuple[Candidate | None, list[str]]:
        """Return a fault as it stands beside what is granted, None where it cannot be believed.

        Also returns the incidents that it makes doubtful: these are to be granted no longer, and
        what was weighed given them is to be weighed anew.
        """
        standing = self.standing
        if fault in standing.profiles and standing.profiles[fault] is None:
            return None, []
        free = standing.free_of(standing.support.get(fault, {}))
        same = self._holding(standing.settled_as(fault))
        if same:
            return None, [name for name in same if self._is_over(fault, name, free)]
        is_idle = free is not None and self._is_idle(fault, free)
        profile = None if is_idle else self.profile(fault)
        if profile is None:
            return None, []
        free = self.standing.free_of(profile.entries)
        if free is not None:
            return self._beside(profile, free)
        if self._is_hopeless(profile):
            return None, []
        self._weigh(profile)
        candidate = self._whole(profile)
        candidate.base = self.base(profile, self.now_us - profile.onset_us)
        candidate.gain = candidate.base + profile.alone
        is_believed = candidate.gain > self.least and not self._refuted(fault, profile.onset_us)
        return (candidate if is_believed else None), []

    def _beside(
        self, profile: Profile, free: list[SymptomKey]
    ) -> tuple[Candidate | None, list[str]]:
        """Return a fault by its free symptoms alone; those granted to others are not missing."""
        if not free:
            return None, []
        if profile.part is None or list(profile.part.entries) != free:
            profile.part = profile.beside(free)
        part = profile.part
        same = self._holding(self.standing.settled_at(profile.fault[1]))
        if not same and self._is_hopeless(part):
            return None, []
        self._weigh(part)
        candidate = self._whole(part)
        candidate.is_beside = True
        candidate.base = self.base(part, self.now_us - part.onset_us)
        candidate.gain = candidate.base + part.alone
        if self._refuted(profile.fault, part.onset_us):
            return None, []
        doubtful = self._doubtful(candidate, profile, same)
        is_believed = candidate.gain > self.least and not same and not doubtful
        return (candidate if is_believed else None), doubtful

    def is_recovering(self, name: str) -> bool:
        """Claim that most of what an incident held has ended, and stayed so."""
        if name not in self._recovering:
            since_us = self.now_us - self._lateness_us
            self._recovering[name] = self.standing.is_recovering(name, self.sightings, since_us)
        return self._recovering[name]

    def _holding(self, names: list[str]) -> list[str]:
        """Return the incidents whose granted cause still shows; one that recovers bars nobody."""
        return [name for name in names if not self.is_recovering(name)]

    def _doubtful(self, candidate: Candidate, profile: Profile, same: list[str]) -> list[str]:
        """Return the incidents whose granted causes a fault might well replace.

        A granted cause was weighed against all that stood then, this fault included: at best what
        has come since pays what this one costs. So both must be worth more than the margin; and
        what the fault does not show must be too little for the granted cause to stand beside it.
        Margins are not over other faults of the same entity: these are weighed as a whole.
        """
        settled = self.standing.settled
        if same:
            gain = self._alone(profile)
            return [name for name in same if self._is_behind(settled[name], gain)]
        bound = min(candidate.profile.alone, -candidate.base)
        if bound <= SETTLED or candidate.gain <= self.least:
            return []
        shown, held = profile.entries.keys(), self.standing.evidence
        weak = [
            name
            for name in sorted(settled)
            if settled[name].margin < bound
            and not shown.isdisjoint(held.get(name, ()))
            and not self.is_recovering(name)
        ]
        return [
            holder
            for holder in weak
            if self._worth_since(candidate, settled[holder]) > settled[holder].margin
            and self._gain_over(holder, candidate, profile) <= SETTLED
        ]

    def _is_behind(self, settled: Settled, gain: float) -> bool:
        """Claim that a granted cause by itself gains less than another fault does."""
        profile = self.profile(settled.fault)
        return profile is None or self._alone(profile) < gain

    def _alone(self, profile: Profile) -> float:
        """Return what a fault gains by itself, whatever is granted."""
        self._weigh(profile)
        return self.base(profile, self.now_us - profile.onset_us) + profile.alone

    def worth_alone(self, fault: Fault) -> tuple[float, float] | None:
        """Return what a fault gains by itself now, and if all else stays silent; None if nothing.

        Whatever is granted: so two looks may be compared.
        """
        profile = self.profile(fault)
        if profile is None:
            return None
        self._weigh(profile)
        if self._refuted(fault, profile.onset_us):
            return None
        age_us = self.now_us - profile.onset_us
        final = self.base(profile, max(age_us, profile.final_us))
        return self.base(profile, age_us) + profile.alone, final + profile.alone

    def _worth_since(self, candidate: Candidate, settled: Settled) -> float:
        """Return what those symptoms of a fault are worth that came since another was weighed."""
        return sum(
            math.log(p / self.leak(key) + 1.0 - p)
            for part in (candidate.support, candidate.optional)
            for key, p in part.items()
            if self.sightings[key].came_us >= settled.weighed_us
        )

    def _gain_over(self, holder: str, candidate: Candidate, rival: Profile) -> float:
        """Return what a granted cause and a fault beside it gain over that fault instead of it.

        Instead of it, the fault must have begun early enough for the symptoms of both. All that is
        optional to it counts here: it adds little, and leaves the granted cause nothing to explain.
        """
        own = self.worth_alone(self.standing.settled[holder].fault)
        if own is None:
            return 0.0
        both = self.standing.evidence[holder] | candidate.shows.keys()
        shown = sorted(both & rival.entries.keys())
        gained = own[0] + candidate.gain
        most = self._priors[rival.fault[0]] + self._uncapped(rival, shown)
        if gained - most > SETTLED:
            return gained - most
        instead = rival.beside(shown)
        gain = self._alone(instead)
        hidden = self._uncapped(instead, self._whole(instead).optional)
        return gained - gain - max(0.0, hidden - self.knobs.optional_cap)

    def _uncapped(self, profile: Profile, keys: Iterable[SymptomKey]) -> float:
        """Return what symptoms of a fault could be worth to it at most."""
        cells = self.rules.signatures[profile.fault[0]].cells
        groups = (profile.entries[key][0] for key in keys)
        return sum(math.log(cells[cell].p / leak + 1.0 - cells[cell].p) for cell, _, leak in groups)

    def _is_over(self, fault: Fault, name: str, free: list[SymptomKey] | None) -> bool:
        """Claim that a granted cause is refuted by now, or news is of the same fault anew."""
        onset_us = self.standing.settled[name].onset_us
        return self._refuted(fault, onset_us) or self._has_come_again(fault, name, free)

    def _has_come_again(self, fault: Fault, name: str, free: list[SymptomKey] | None) -> bool:
        """Claim that news too late for a granted cause would be enough for the same fault anew."""
        column, began_us = self.codebook.column(fault), self.standing.settled[name].onset_us
        if column is None:
            return False
        cells = self.rules.signatures[fault[0]].cells
        anew = Profile(fault, column.totals, len(column.reach))
        anew.put(self._shown(fault, free or ()))
        anew.take(
            [
                key
                for key, ((cell, _, _), first_us, _) in anew.entries.items()
                if 0 <= first_us - began_us <= cells[cell].within_us + self._lateness_us
            ]
        )
        if not anew.entries:
            return False
        self._weigh(anew)
        return self.base(anew, self.now_us - anew.onset_us) + anew.alone > self.least

    def granted(self, key: SymptomKey) -> tuple[str, float] | None:
        """Return the incident whose granted cause shows a free symptom best, and its p."""
        if key not in self._granted:
            self._granted[key] = max(self._grants(key), key=lambda one: one[1], default=None)
        return self._granted[key]

    def forget_granted(self) -> None:
        """Ask anew what is granted: some incidents are so no longer."""
        self._granted.clear()

    def _grants(self, key: SymptomKey) -> Iterator[tuple[str, float]]:
        for fault in self.standing.causes(key) if self.standing.settled else ():
            for name in self.standing.settled_at(fault[1]):
                if self.standing.settled[name].fault != fault:
                    continue
                index = self.codebook.cell_of(fault, *key, self.tellers(key))
                if index is None:
                    continue
                cell = self.rules.signatures[fault[0]].cells[index]
                if not (self.is_recovering(name) and self._is_late(key, cell, name)):
                    yield name, cell.p

    def _is_late(self, key: SymptomKey, cell: CellSpec, name: str) -> bool:
        age_us = self.sightings[key].first_us - self.standing.settled[name].onset_us
        return age_us > cell.within_us + self._lateness_us

    def q(self, key: SymptomKey) -> float:
        """Return the chance to see a free symptom given what is granted."""
        granted = self.granted(key)
        leak = self.leak(key)
        return leak if granted is None else min(Q_MAX, 1.0 - (1.0 - leak) * (1.0 - granted[1]))

    # ---- what a fault shows --------------------------------------------------------------------

    def profile(self, fault: Fault) -> Profile | None:
        """Return all that a fault shows, None where it cannot be, or not be believed."""
        kept, support = self.standing.profiles, self.standing.support.get(fault, {})
        if fault not in kept:
            kept[fault] = self._gathered(fault) if self._is_hopeful(fault, support) else None
        profile = kept[fault]
        if profile is not None and profile.stale:
            changed, profile.stale = profile.stale, {}
            profile.take(changed)
            profile.put(self._shown(fault, (key for key in changed if key in support)))
        is_shown = profile is not None and self._has_required(fault, profile.entries)
        return profile if is_shown else None

    def _has_required(self, fault: Fault, keys: Iterable[SymptomKey]) -> bool:
        """Claim that there are symptoms, and of those that a fault must show at least one."""
        required = self.rules.signatures[fault[0]].required
        return any(not required or name in required for name, _ in keys)

    def _is_hopeful(self, fault: Fault, support: Collection[SymptomKey]) -> bool:
        """Claim that a fault could be believed if all that may be its symptoms were.

        The sum is exact, so that it does not depend on the order in which symptoms came.
        """
        if not self._has_required(fault, support):
            return False
        if len(support) >= CROWD:
            return True
        return math.fsum(self._at_most(fault, support)) > self.least - self._priors[fault[0]]

    def _is_hopeless(self, profile: Profile) -> bool:
        """Claim that no onset can make a crowd believed: to seek the likeliest costs far more.

        At best all its symptoms are timely, it began with the last of them, and whatever has shown
        nothing yet costs no more than it would then.
        """
        if profile.footprint < CROWD or self._is_dated(profile):
            return False
        cells = self.rules.signatures[profile.fault[0]].cells
        worth, optional = self._priors[profile.fault[0]], 0.0
        shown: dict[Place, int] = {}
        last_us = 0
        for (index, kind, leak), listed in profile.times.items():
            last_us = max(last_us, listed[-1])
            nats = len(listed) * math.log(cells[index].p / leak + 1.0 - cells[index].p)
            if cells[index].optional:
                optional += nats
            else:
                worth += nats
                shown[index, kind] = shown.get((index, kind), 0) + len(listed)
        worth += min(optional, self.knobs.optional_cap)
        missing = [
            (cells[index], total - shown.get((index, kind), 0), total)
            for (index, kind), total in profile.totals.items()
            if total > shown.get((index, kind), 0) and not cells[index].optional
        ]
        age_us = self.now_us - last_us
        for one in missing:
            worth += max(self._silence([one], age_us), self.knobs.absence_cap)
        return worth + ROUNDING < self.least

    def _is_dated(self, profile: Profile) -> bool:
        """Claim that a profile is weighed, and its onset sought as late as it is to be."""
        is_crowd = profile.footprint >= CROWD
        return profile.is_weighed and (not is_crowd or profile.sought_us == self._seek_us)

    def _is_idle(self, fault: Fault, free: list[SymptomKey]) -> bool:
        """Claim that its news alone can make a fault neither believed nor anything doubtful."""
        is_rival = bool(self.standing.settled_at(fault[1]))
        return not is_rival and not self._is_hopeful(fault, free)

    def _at_most(self, fault: Fault, keys: Iterable[SymptomKey]) -> Iterator[float]:
        """Yield what each symptom can be worth to a fault that may show it."""
        for key in keys:
            p = self.codebook.largest_p[fault[0], key[0]]
            yield math.log(p / self.leak(key) + 1.0 - p)

    def _gathered(self, fault: Fault) -> Profile | None:
        column = self.codebook.column(fault)
        if column is None:
            return None
        profile = Profile(fault, column.totals, len(column.reach))
        profile.put(self._shown(fault, self.standing.support[fault]))
        return profile

    def tellers(self, key: SymptomKey) -> list[str]:
        """Return who sees a symptom."""
        return self.sightings[key].tellers

    def _shown(self, fault: Fault, keys: Iterable[SymptomKey]) -> Iterator[Shown]:
        """Yield those of some symptoms that a fault shows."""
        for key, cell in self.codebook.cells_of(fault, keys, self.tellers):
            sighting, group = self.sightings[key], (cell, kind_of(key[1]), self.leak(key))
            yield key, group, sighting.first_us, sighting.cleared_us is None

    # ---- how heavy it is -----------------------------------------------------------------------

    def _weigh(self, profile: Profile) -> None:
        """Date a fault, and work out what its symptoms are worth and which are missing."""
        if self._is_dated(profile):
            return
        is_crowd = profile.footprint >= CROWD
        profile.sought_us = self._seek_us
        onset_us = self._likeliest_onset(profile) if is_crowd else self._onset(profile)
        if profile.is_weighed and onset_us == profile.onset_us:
            return
        profile.onset_us, profile.is_weighed, profile.whole = onset_us, True, None
        cells = self.rules.signatures[profile.fault[0]].cells
        alone, optional = 0.0, 0.0
        shown: dict[Place, int] = {}
        for (cell, kind, leak), count in timely(profile.times, cells, onset_us, self._lateness_us):
            worth = count * math.log(cells[cell].p / leak + 1.0 - cells[cell].p)
            if cells[cell].optional:
                optional += worth
            else:
                alone += worth
                shown[cell, kind] = shown.get((cell, kind), 0) + count
        if alone > self.knobs.source_cap:
            alone = self._capped_alone(profile)
        profile.alone = alone + min(optional, self.knobs.optional_cap)
        profile.missing = [
            (cells[cell], total - shown.get((cell, kind), 0), total)
            for (cell, kind), total in profile.totals.items()
            if total > shown.get((cell, kind), 0) and not cells[cell].optional
        ]
        silent_us = max((cell.within_us for cell, _, _ in profile.missing), default=0)
        profile.final_us = silent_us + self._lateness_us

    def _capped_alone(self, profile: Profile) -> float:
        candidate = self._sorted_out(profile)
        return self._capped(candidate, {key: self.leak(key) for key in candidate.support})

    def _whole(self, profile: Profile) -> Candidate:
        """Return a weighed fault with its symptoms; kept until it weighs otherwise."""
        if profile.whole is None:
            profile.whole = self._sorted_out(profile)
        return profile.whole

    def _sorted_out(self, profile: Profile) -> Candidate:
        """Return a fault with its symptoms: what is timely, optional and late."""
        candidate = Candidate(profile)
        cells = self.rules.signatures[profile.fault[0]].cells
        for key in sorted(profile.entries):
            (index, _, _), first_us, _ = profile.entries[key]
            cell, age_us = cells[index], first_us - profile.onset_us
            window_us = cell.within_us + self._lateness_us
            if age_us < -self._lateness_us:
                continue  # It stood before, for another reason.
            if not 0 <= age_us <= window_us:
                candidate.late[key] = cell.p
            elif cell.optional:
                candidate.optional[key] = cell.p
            else:
                candidate.support[key] = cell.p
        candidate.shows = {**candidate.late, **candidate.optional, **candidate.support}
        return candidate

    def _onset(self, profile: Profile) -> int:
        cells = self.rules.signatures[profile.fault[0]].cells
        turns, narrowest_us = [], math.inf
        for (index, _, leak), first_us, _ in profile.entries.values():
            within_us = cells[index].within_us + self._lateness_us
            narrowest_us = min(narrowest_us, within_us)
            weight = math.log((1.0 - (1.0 - leak) * (1.0 - cells[index].p)) / leak)
            turns.append((first_us, within_us, weight))
        return heaviest_onset(turns, narrowest_us)

    def _likeliest_onset(self, profile: Profile) -> int:
        """Return the onset that fits best what has come by now, and what has not.

        Where very much is expected, some of it always stands for other reasons; an onset taken
        from that would make all that is still to come count as missing.
        """
        cells = self.rules.signatures[profile.fault[0]].cells
        seen = [
            (
                index,
                cells[index].within_us + self._lateness_us,
                math.log(cells[index].p / leak + 1.0 - cells[index].p),
                listed,
            )
            for (index, _, leak), listed in sorted(profile.times.items())
        ]
        expected: dict[int, int] = {}
        for (index, _), total in profile.totals.items():
            if not cells[index].optional:
                expected[index] = expected.get(index, 0) + total
        whole = [(cells[index], total) for index, total in expected.items()]

        def fit(onset_us: int) -> float:
            worth, left = 0.0, expected.copy()
            for index, window_us, nats, listed in seen:
                count = bisect_right(listed, onset_us + window_us) - bisect_left(listed, onset_us)
                worth += count * nats
                if index in left:
                    left[index] -= count
            unseen = zip(whole, left.values(), strict=True)
            missing = [(cell, count, total) for (cell, total), count in unseen if count > 0]
            return worth + self._silence(missing, self._seek_us - onset_us)

        return likeliest(sorted(chain.from_iterable(profile.times.values())), fit)

    def base(self, profile: Profile, age_us: int) -> float:
        """Return log prior odds plus what every expected and unseen symptom costs at an age."""
        return self._priors[profile.fault[0]] + self._silence(profile.missing, age_us)

    def _silence(self, missing: list[tuple[CellSpec, int, int]], age_us: int) -> float:
        """Return what all those cost that have not shown a cell by an age: the arrival CDF.

        A cell of which nothing is seen on any entity of a kind costs no more than the cap: its
        collector may be deaf, or what would have spoken may be dead itself. While its time lasts,
        what many show comes with a delay they share (a poll, a timeout), so that any number of
        them is as likely as another: 1 of n + 1.
        """
        on_time, lateness_us = self.knobs.on_time, self._lateness_us
        nats, age_us = 0.0, max(0, age_us)
        absence_cap, log1p = self.knobs.absence_cap, math.log1p
        for cell, count, total in missing:
            within_us = cell.within_us
            late_us = age_us - within_us
            if late_us < 0:
                arrived = on_time * age_us / within_us
            elif late_us < lateness_us:
                arrived = on_time + (1.0 - on_time) * late_us / lateness_us
            else:
                arrived = 1.0
            cost = count * log1p(-cell.p * arrived)
            if count == total and cost < absence_cap:
                cost = absence_cap
            if late_us < 0 and total > 1:
                cost = max(cost, -math.log(total + 1))
            nats += cost
        return nats

    def _refuted(self, fault: Fault, onset_us: int) -> bool:
        """Claim that what cannot be beside a fault was seen since its onset, and not long ago.

        What began when all had settled is of another fault: one does not undo the other.
        """
        until_us = onset_us + self._settle_us
        for symptom, node, fresh_us in self.codebook.refuting(fault):
            sighting = self.sightings.get((symptom, node))
            if sighting is None or self.now_us - sighting.last_us > fresh_us:
                continue
            if sighting.first_us > until_us:
                continue
            if sighting.cleared_us is None or sighting.cleared_us >= onset_us - self._lateness_us:
                return True
        return False

    # ---- what it adds to others ----------------------------------------------------------------

    def gain(self, candidate: Candidate, q: dict[SymptomKey, float]) -> float:
        """Return what a fault adds to an explanation that explains each symptom with chance q."""
        return candidate.base + self.worth(candidate, q)

    def worth(self, candidate: Candidate, q: dict[SymptomKey, float]) -> float:
        """Return what the symptoms of a fault are worth where each is explained with chance q."""
        # The sum of log(p / q + 1 - p), term by term in that order, at a third of a loop's cost.
        chances = candidate.support.values()
        odds = map(truediv, chances, map(q.__getitem__, candidate.support))
        total = sum(map(math.log, map(sub, map(add, odds, repeat(1.0)), chances)))
        if total > self.knobs.source_cap:
            total = self._capped(candidate, q)
        return total + self._optional_worth(candidate, q)

    def _optional_worth(self, candidate: Candidate, q: dict[SymptomKey, float]) -> float:
        """Return what optional symptoms add: no term is negative, so the cap ends the sum."""
        cap, total = self.knobs.optional_cap, 0.0
        for key, p in candidate.optional.items():
            total += math.log(p / q[key] + 1.0 - p)
            if total >= cap:
                return cap
        return total

    def _capped(self, candidate: Candidate, q: dict[SymptomKey, float]) -> float:
        """Return the support with each source counted up to the cap: one liar condemns nobody."""
        by_source: dict[str, float] = {}
        for key, p in candidate.support.items():
            source = self.sightings[key].source
            by_source[source] = by_source.get(source, 0.0) + math.log(p / q[key] + 1.0 - p)
        return sum(min(by_source[source], self.knobs.source_cap) for source in sorted(by_source))
