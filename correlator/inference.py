"""Which faults explain the symptoms: a temporal noisy-OR, decoded greedily.

Pure functions of a codebook, the sightings and the time. Positive and negative evidence as in
Steinder and Sethi (IM'03), the bipartite noisy-OR of Shrink and Spotlight, the greedy with deltas
of Flock (2023). Scores are natural logarithms (nats). Keeps: adding a symptom that the chosen
faults explain never adds a fault; nothing depends on the order in which sightings came.
"""

import bisect
import heapq
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import repeat
from operator import add, sub, truediv

from correlator.codebook import Codebook, Fault
from correlator.rules.paths import walk
from correlator.rules.ruleset import CellSpec, RuleSet
from correlator.state import Sighting, SymptomKey
from schemas.base import kind_of

COMPONENT_MAX = 4096
"""Symptoms from which on a component grows no further; the rest is looked at in another part."""
CANDIDATES_MAX = 512
"""Faults weighed against each other in one look, the best on their own first."""
SEEDS_MAX = 6
"""Likeliest faults from which an explanation is begun; the best of them is kept."""
RIVALS_MAX = 8
"""Entities weighed as a replacement of a chosen one."""
BETTER_MIN = 1e-6
"""Nats below which two explanations are equal: sums in another order differ by less."""
IMPROVEMENTS_MAX = 2
"""Passes that may take up better explanations, and how many each may."""
CLOSE_MAX = 128
"""A chosen fault that explains more is granted while a smaller one is weighed."""
RANKS_MAX = 4
"""Runner-ups told of each cause."""
CROWD = 64
"""Symptoms from which on a fault's onset is sought anew at each look."""
ONSETS = 16
"""Onsets tried for a crowd: quantiles of its first sightings."""
Q_MAX = 0.999999
"""No symptom is ever explained so well that another cause could add nothing at all."""


@dataclass(slots=True)
class Candidate:
    """One fault as seen now: its timely symptoms and what its silence costs."""

    fault: Fault
    onset_us: int
    base: float
    footprint: int
    """entities on which it could show anything; of equals the smaller footprint is preferred"""
    support: dict[SymptomKey, float] = field(default_factory=dict)
    """timely symptom → p of its cell."""
    optional: dict[SymptomKey, float] = field(default_factory=dict)
    """timely symptom of an optional cell → p."""
    late: dict[SymptomKey, float] = field(default_factory=dict)
    """symptom outside the window of this onset → p: explained, but no support."""
    missing: list[tuple[CellSpec, int, bool]] = field(default_factory=list)
    """(cell, entities on which it is expected and not seen, whether it is seen on none)."""
    shows: dict[SymptomKey, float] = field(default_factory=dict)
    """all of the above together: what it explains."""
    times: dict[int, list[int]] = field(default_factory=dict)
    """of a crowd: cell → first sightings, sorted; the onset is then sought anew at each look."""
    totals: dict[tuple[int, str], int] = field(default_factory=dict)
    """(cell, kind) → entities addressed."""
    dated_us: int = -1
    """time of the look that sought the onset of a crowd."""
    weighed_us: int = -1
    """age at which `base` was worked out."""
    final_us: int = 0
    """age from which its silence has said all, so that `base` no longer changes."""
    alone: float = 0.0
    """nats its symptoms are worth where nothing else explains them."""
    gain: float = 0.0
    """base and alone together."""

    @property
    def explains(self) -> set[SymptomKey]:
        """The timely symptoms, expected and optional ones."""
        return {*self.support, *self.optional}


@dataclass(slots=True)
class Verdict:
    """One fault of the best explanation, with how sure it is."""

    candidate: Candidate
    margin: float
    confidence: float
    ranking: list[tuple[Fault, float]]
    """Faults ranked for this verdict, one per entity, the best first; the first is its own."""
    unexplained: list[SymptomKey]
    """Symptoms of the component that no chosen fault explains: they speak against the whole."""


@dataclass(slots=True)
class Explanation:
    """The best set of faults for one component of symptoms."""

    symptoms: list[SymptomKey]
    verdicts: list[Verdict]
    owner: dict[SymptomKey, Fault]
    """symptom → the chosen fault that explains it."""


@dataclass(slots=True)
class Weighed:
    """The candidates of one component, with what every search over them needs."""

    candidates: list[Candidate]
    leaks: dict[SymptomKey, float]
    showing: dict[SymptomKey, list[int]]
    """symptom → the candidates that it is a timely symptom of, in order."""
    assumed: bool = False
    """some fault is taken for granted, and `leaks` hold what it explains."""


class Look:
    """One look at a component; holds what its functions share.

    `kept` outlives the look: candidates as they stood when a symptom of theirs last changed, None
    for faults that cannot be.
    """

    def __init__(
        self,
        codebook: Codebook,
        sightings: dict[SymptomKey, Sighting],
        now_us: int,
        kept: dict[Fault, Candidate | None] | None = None,
    ) -> None:
        self.codebook = codebook
        self.rules: RuleSet = codebook.rules
        self.knobs = codebook.rules.knobs
        self.sightings = sightings
        self.now_us = now_us
        self.kept = {} if kept is None else kept
        self.least = min(self.knobs.gain_min, self.knobs.gain_first)
        """nats a fault must exceed, alone, to be considered at all"""
        self._lateness_us = self.rules.lateness_us
        self._priors = [math.log(s.prior) - math.log1p(-s.prior) for s in self.rules.signatures]

    def leak(self, key: SymptomKey) -> float:
        """Return the chance to see a symptom with no cause at all."""
        sighting = self.sightings[key]
        spurious = self.rules.symptoms[key[0]].spurious
        return spurious * self.knobs.resighting if sighting.count > 1 else spurious

    def candidate(self, fault: Fault, support: dict[SymptomKey, int]) -> Candidate | None:
        """Return a fault's present standing, or None where it cannot be."""
        if not support or self._refuted(fault):
            return None
        if fault not in self.kept:
            hopeless = self._at_most(fault, support) <= self.least
            self.kept[fault] = None if hopeless else self._gathered(fault, support)
        candidate = self.kept[fault]
        if candidate is not None and candidate.times and candidate.dated_us != self.now_us:
            onset_us = self._likeliest_onset(fault, candidate.times, candidate.totals)
            candidate.dated_us = self.now_us
            if onset_us != candidate.onset_us:
                candidate = self.kept[fault] = self._gathered(fault, support, onset_us)
        if candidate is None or candidate.alone + self._priors[fault[0]] <= self.least:
            return None
        age_us = max(0, self.now_us - candidate.onset_us)
        if candidate.weighed_us < candidate.final_us:
            candidate.base = self._base(candidate, age_us)
            candidate.weighed_us = age_us
        candidate.gain = candidate.base + candidate.alone
        return candidate

    def _at_most(self, fault: Fault, support: dict[SymptomKey, int]) -> float:
        """Return what a fault could gain if all that may be its symptoms were, and none missing."""
        total = self._priors[fault[0]]
        for symptom, entity in support:
            p = self.codebook.largest_p[fault[0], symptom]
            total += math.log(p / self.leak((symptom, entity)) + 1.0 - p)
        return total

    def _gathered(
        self, fault: Fault, possible: dict[SymptomKey, int], dated_us: int | None = None
    ) -> Candidate | None:
        """Return what of a fault depends on its symptoms and onset, not on the time of the look."""
        column = self.codebook.column(fault)
        if column is None:
            return None
        exact = ((key, self.codebook.cell_of(fault, *key)) for key in sorted(possible))
        support = {key: cell for key, cell in exact if cell is not None}
        if not support:
            return None
        times = self._times(support) if len(support) >= CROWD else {}
        if dated_us is not None:
            onset_us = dated_us
        elif times:
            onset_us = self._likeliest_onset(fault, times, column.totals)
        else:
            onset_us = self._onset(support, self.rules.signatures[fault[0]].cells)
        candidate = Candidate(fault, onset_us, 0.0, len(column.reach), times=times)
        candidate.dated_us = self.now_us
        self._sorted_out(candidate, support, column.totals)
        return candidate

    def _sorted_out(
        self,
        candidate: Candidate,
        support: dict[SymptomKey, int],
        totals: dict[tuple[int, str], int],
    ) -> None:
        """Fill in what is timely, optional, late and missing, given the onset."""
        cells = self.rules.signatures[candidate.fault[0]].cells
        shown: dict[tuple[int, str], int] = {}
        for key, index in support.items():
            cell = cells[index]
            age_us = self.sightings[key].first_us - candidate.onset_us
            if not 0 <= age_us <= cell.within_us + self._lateness_us:
                candidate.late[key] = cell.p
            elif cell.optional:
                candidate.optional[key] = cell.p
            else:
                candidate.support[key] = cell.p
                place = (index, kind_of(key[1]))
                shown[place] = shown.get(place, 0) + 1
        for place, total in totals.items():
            cell, seen = cells[place[0]], shown.get(place, 0)
            if total > seen and not cell.optional:
                candidate.missing.append((cell, total - seen, not seen))
        candidate.totals = totals
        candidate.shows = {**candidate.late, **candidate.optional, **candidate.support}
        silent_us = max((cell.within_us for cell, _, _ in candidate.missing), default=0)
        candidate.final_us = silent_us + self._lateness_us
        leaks = {key: self.leak(key) for key in candidate.explains}
        candidate.alone = self._worth(candidate, leaks)

    def _onset(self, support: dict[SymptomKey, int], cells: tuple[CellSpec, ...]) -> int:
        """Return the onset for which the timely support weighs most, the last of equals.

        An old symptom does not date a new fault. Each symptom speaks for the onsets from its own
        window before its first sighting up to that sighting; O(n log n) in the support.
        """
        times = [self.sightings[key].first_us for key in support]
        earliest_us = min(times)
        narrowest_us = min(cells[cell].within_us for cell in support.values()) + self._lateness_us
        if max(times) - earliest_us <= narrowest_us:
            return earliest_us
        turns: list[tuple[int, int, float]] = []
        for key, cell in sorted(support.items()):
            first_us = self.sightings[key].first_us
            weight = self._weight(key, cells[cell].p)
            turns.append((first_us - cells[cell].within_us - self._lateness_us, 0, weight))
            turns.append((first_us, 1, weight))
        best_us, best, weight_now = earliest_us, -math.inf, 0.0
        for at_us, ends, weight in sorted(turns):
            if ends and weight_now >= best - 1e-9:
                best_us, best = at_us, weight_now
            weight_now += -weight if ends else weight
        return best_us

    def _times(self, support: dict[SymptomKey, int]) -> dict[int, list[int]]:
        times: dict[int, list[int]] = {}
        for key, cell in support.items():
            times.setdefault(cell, []).append(self.sightings[key].first_us)
        return {cell: sorted(listed) for cell, listed in times.items()}

    def _likeliest_onset(
        self, fault: Fault, times: dict[int, list[int]], totals: dict[tuple[int, str], int]
    ) -> int:
        """Return the onset that fits best what has come by now, and what has not.

        Where very much is expected, some of it always stands for other reasons; an onset taken
        from that would make all that is still to come count as missing.
        """
        every = sorted(itertools.chain.from_iterable(times.values()))
        grid = {every[len(every) * step // ONSETS] for step in range(ONSETS)}
        expected = [0] * len(self.rules.signatures[fault[0]].cells)
        for (cell, _), total in totals.items():
            expected[cell] += total
        fits = {at_us: self._fit(fault, times, expected, at_us) for at_us in grid}
        return max(grid, key=lambda at_us: (fits[at_us], at_us))

    def _fit(
        self, fault: Fault, times: dict[int, list[int]], expected: list[int], onset_us: int
    ) -> float:
        age_us = max(0, self.now_us - onset_us)
        fit = 0.0
        for index, cell in enumerate(self.rules.signatures[fault[0]].cells):
            listed = times.get(index, [])
            until_us = onset_us + cell.within_us + self._lateness_us
            seen = bisect.bisect_right(listed, until_us) - bisect.bisect_left(listed, onset_us)
            if seen:
                leak = self.rules.symptoms[cell.symptoms[0]].spurious
                fit += seen * math.log(cell.p / leak + 1.0 - cell.p)
            if not cell.optional and expected[index] > seen:
                silent = math.log1p(-cell.p * self._arrived(age_us, cell.within_us))
                cost = (expected[index] - seen) * silent
                fit += cost if seen else max(cost, self.knobs.absence_cap)
        return fit

    def _weight(self, key: SymptomKey, p: float) -> float:
        leak = self.leak(key)
        return math.log((1.0 - (1.0 - leak) * (1.0 - p)) / leak)

    def _base(self, candidate: Candidate, age_us: int) -> float:
        """Return log prior odds plus what every expected and unseen symptom costs by now.

        A cell of which nothing is seen on any entity of a kind costs no more than the cap: its
        collector may be deaf, or what would have spoken may be dead itself.
        """
        score = self._priors[candidate.fault[0]]
        for cell, count, is_silent in candidate.missing:
            cost = count * math.log1p(-cell.p * self._arrived(age_us, cell.within_us))
            score += max(cost, self.knobs.absence_cap) if is_silent else cost
        return score

    def _arrived(self, age_us: int, within_us: int) -> float:
        """Return the share of symptoms that have come by this age: the arrival CDF."""
        on_time = self.knobs.on_time
        if age_us < within_us:
            return on_time * age_us / within_us
        rest = (age_us - within_us) / self._lateness_us if self._lateness_us else 1.0
        return on_time + (1.0 - on_time) * min(1.0, rest)

    def _refuted(self, fault: Fault) -> bool:
        for refutation in self.rules.signatures[fault[0]].refuted_by:
            for node in walk(self.codebook.topology, fault[1], refutation.path):
                sighting = self.sightings.get((refutation.symptom, node))
                if sighting is not None and self.now_us - sighting.last_us <= refutation.fresh_us:
                    return True
        return False

    def gain(self, candidate: Candidate, q: dict[SymptomKey, float]) -> float:
        """Return what a fault adds to an explanation that explains each symptom with chance q."""
        return candidate.base + self._worth(candidate, q)

    def _worth(self, candidate: Candidate, q: dict[SymptomKey, float]) -> float:
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

    def greedy(
        self, weighed: Weighed, allowed: Iterable[int], first: int | None = None
    ) -> tuple[list[int], float]:
        """Return which of the allowed candidates are chosen, in order, and their total score.

        Each step takes the largest gain (ties: the smaller footprint); `first` is taken before any
        other. A gain only shrinks as symptoms get explained, so it is worked out again only when
        it comes to the top. Every fault pays for being assumed: the first `gain_first`, each
        further one `gain_min`; so assuming nothing scores 0. An entity fails in one way at a time.
        """
        candidates = weighed.candidates
        q = dict(weighed.leaks)
        heap = [(-candidates[i].gain, i) for i in allowed if i != first]
        heapq.heapify(heap)
        chosen: list[int] = []
        entities: set[str] = set()
        total = 0.0
        while heap or first is not None:
            index = heapq.heappop(heap)[1] if first is None else first
            if candidates[index].fault[1] in entities:
                continue
            gain = self.gain(candidates[index], q)
            if first is None and heap and (-gain, index) > heap[0]:
                heapq.heappush(heap, (-gain, index))
                continue
            first = None
            is_further = weighed.assumed or bool(chosen)
            added = gain - (self.knobs.gain_min if is_further else self.knobs.gain_first)
            if added <= 0.0:
                break
            total += added
            chosen.append(index)
            entities.add(candidates[index].fault[1])
            self._explain(candidates[index], q)
        return chosen, total

    def search(self, weighed: Weighed) -> tuple[list[int], float]:
        """Return the best of the greedy explanations that begin with each of the likeliest."""
        everything = range(len(weighed.candidates))
        seeds: dict[str, int] = {}
        for i in sorted(everything, key=lambda i: (-weighed.candidates[i].gain, i)):
            seeds.setdefault(weighed.candidates[i].fault[1], i)
            if len(seeds) == SEEDS_MAX:
                break
        runs = [self.greedy(weighed, everything, seed) for seed in seeds.values()]
        return max(runs, key=lambda run: run[1], default=([], 0.0))

    def _explain(self, chosen: Candidate, q: dict[SymptomKey, float]) -> None:
        shows = chosen.shows
        for key in shows if len(shows) <= len(q) else q:
            if key in shows and key in q:
                explained = 1.0 - (1.0 - q[key]) * (1.0 - shows[key])
                q[key] = explained if explained < Q_MAX else Q_MAX

    def explain(self, symptoms: list[SymptomKey], candidates: list[Candidate]) -> Explanation:
        """Return the best set of faults for a component, each with margin and runner-ups."""
        showing: dict[SymptomKey, list[int]] = {}
        for index, candidate in enumerate(candidates):
            for key in candidate.explains:
                showing.setdefault(key, []).append(index)
        weighed = Weighed(candidates, {key: self.leak(key) for key in symptoms}, showing)
        chosen, total = self.search(weighed)
        verdicts: list[Verdict] = []
        for last in (False,) * IMPROVEMENTS_MAX + (True,):
            verdicts, chosen, better = self._pass(weighed, chosen, total, take=not last)
            if better == total:
                break
            total = better
        owner = self._owners(candidates, chosen)
        for verdict in verdicts:
            verdict.unexplained = [key for key in symptoms if key not in owner]
        return Explanation(symptoms, verdicts, owner)

    def _pass(
        self, weighed: Weighed, chosen: list[int], total: float, *, take: bool
    ) -> tuple[list[Verdict], list[int], float]:
        """Weigh each chosen fault; a better explanation met on the way is taken up at once."""
        verdicts: list[Verdict] = []
        position, taken = 0, 0
        while position < len(chosen):
            verdict, other, better = self._verdict(weighed, chosen, position, total)
            if take and taken < IMPROVEMENTS_MAX and better > total + BETTER_MIN:
                chosen, total, taken = other, better, taken + 1
            else:
                verdicts.append(verdict)
                position += 1
        return verdicts, chosen, total

    def _owners(self, candidates: list[Candidate], chosen: list[int]) -> dict[SymptomKey, Fault]:
        owner: dict[SymptomKey, Fault] = {}
        for part in ("support", "optional", "late"):
            best: dict[SymptomKey, float] = {}
            for index in chosen:
                keys: dict[SymptomKey, float] = getattr(candidates[index], part)
                for key, p in keys.items():
                    if p > best.get(key, 0.0) and (key not in owner or key in best):
                        best[key] = p
                        owner[key] = candidates[index].fault
        return owner

    def _verdict(
        self, weighed: Weighed, chosen: list[int], position: int, total: float
    ) -> tuple[Verdict, list[int], float]:
        """Weigh one chosen fault against its rivals, the other chosen ones kept or dropped.

        Returns the verdict, and the best explanation without the fault's entity, with its total.
        """
        own = weighed.candidates[chosen[position]]
        rest = [i for i in chosen if i != chosen[position]]
        close = [i for i in rest if len(weighed.candidates[i].shows) < CLOSE_MAX]
        far = [i for i in rest if len(weighed.candidates[i].shows) >= CLOSE_MAX]
        local, q = self._around(weighed, own, close, far)
        rivals = self._rivals(local, own, rest, q)
        _, here_total = self.greedy(local, [*close, chosen[position]], chosen[position])
        best, best_total = self.greedy(local, [*close, *rivals])
        scored = []
        for i in rivals:
            other, other_total = self.greedy(local, [*close, i], i)
            scored.append((round(own.gain - (here_total - other_total), 9), i))
            if other_total > best_total:
                best, best_total = other, other_total
        scored.sort(key=lambda one: (-one[0], one[1]))
        others = [(weighed.candidates[i].fault, score) for score, i in scored[:RANKS_MAX]]
        margin = here_total - best_total
        verdict = Verdict(own, margin, _sigmoid(margin), [(own.fault, own.gain), *others], [])
        return verdict, [*far, *best], total - here_total + best_total

    def _around(
        self, weighed: Weighed, own: Candidate, close: list[int], far: list[int]
    ) -> tuple[Weighed, dict[SymptomKey, float]]:
        """Return the neighbourhood of a fault, the far ones granted, and q there without it."""
        near = {i for key in own.explains for i in weighed.showing[key]}
        keys = dict.fromkeys(own.shows)
        for i in sorted(near.difference(far).union(close)):
            keys.update(dict.fromkeys(weighed.candidates[i].shows))
        q = {key: weighed.leaks[key] for key in keys if key in weighed.leaks}
        for i in far:
            self._explain(weighed.candidates[i], q)
        local = Weighed(weighed.candidates, dict(q), weighed.showing, assumed=bool(far))
        for i in close:
            self._explain(weighed.candidates[i], q)
        return local, q

    def _rivals(
        self, weighed: Weighed, own: Candidate, rest: list[int], q: dict[SymptomKey, float]
    ) -> list[int]:
        """Return the likeliest fault of each of the entities that could replace a chosen one."""
        kept = {weighed.candidates[i].fault[1] for i in rest} | {own.fault[1]}
        best: dict[str, tuple[float, int]] = {}
        near = {i for key in own.explains for i in weighed.showing[key]}
        for i in sorted(near, key=lambda i: (-weighed.candidates[i].gain, i)):
            candidate = weighed.candidates[i]
            if len(best) >= RIVALS_MAX and -candidate.gain > max(best.values())[0]:
                break  # A gain only shrinks as symptoms get explained: none of the rest can rank.
            entity = candidate.fault[1]
            if entity in kept:
                continue
            rank = (-max(self.gain(candidate, q), candidate.gain - self.knobs.gain_min), i)
            if entity not in best or rank < best[entity]:
                best[entity] = rank
        return [i for _, i in sorted(best.values())[:RIVALS_MAX]]


def _sigmoid(x: float) -> float:
    return 0.5 + 0.5 * math.tanh(x / 2.0)


def component(
    look: Look,
    start: Iterable[SymptomKey],
    support: dict[Fault, dict[SymptomKey, int]],
) -> tuple[list[SymptomKey], list[Candidate]]:
    """Return the symptoms joined to `start` by faults that could stand alone, and those faults.

    A fault that would not be believed even if it alone explained all it shows joins nothing: so a
    pool that serves every host does not make one component of all of them.
    """
    waiting = sorted(key for key in start if key in look.sightings)
    symptoms = set(waiting)
    candidates: dict[Fault, Candidate | None] = {}
    while waiting and len(symptoms) < COMPONENT_MAX:
        key = waiting.pop()
        for fault, _ in look.codebook.causes(*key):
            if fault in candidates:
                continue
            candidate = look.candidate(fault, support.get(fault, {}))
            candidates[fault] = None
            if candidate is None:
                continue
            if candidate.gain <= look.least:
                continue
            candidates[fault] = candidate
            joined = sorted(near for near in candidate.shows if near not in symptoms)
            symptoms.update(joined)
            waiting.extend(joined)
    viable = sorted(filter(None, candidates.values()), key=lambda c: (-c.gain, c.fault))
    likeliest = viable[:CANDIDATES_MAX]
    return sorted(symptoms), sorted(likeliest, key=lambda c: (c.footprint, c.fault))
