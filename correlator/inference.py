"""Which faults explain the symptoms: a temporal noisy-OR, decoded greedily.

Takes the faults of one component as `weighing` finds them. The greedy with deltas is that of Flock
(2023). Scores are natural logarithms (nats). Keeps: adding a symptom that the chosen faults
explain never adds a fault; nothing depends on the order in which sightings came.
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from correlator import astray
from correlator.codebook import Fault
from correlator.profiles import Candidate
from correlator.state import SymptomKey
from correlator.weighing import Q_MAX, Look

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
CROWD_GAIN = 100.0
"""Nats from which on a fault that explains so many spares weighing what could explain fewer."""
RANKS_MAX = 4
"""Runner-ups told of each cause."""


@dataclass(slots=True)
class Verdict:
    """One fault of the best explanation, with how sure it is."""

    candidate: Candidate
    margin: float
    margin_final: float
    """the margin left if all that it waits for stays silent"""
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


class Search:
    """Explains one component under one look."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self.knobs = look.knobs

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
            gain = self.look.gain(candidates[index], q)
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

    def _begun(
        self, weighed: Weighed, allowed: Sequence[int], first: int
    ) -> tuple[list[int], float]:
        """Return the explanation that begins with a fault, without it if the rest needs it not.

        What is optional to a fault adds to it only up to a cap; so what is left over would pay for
        a small cause that explains nothing new, if that were taken before.
        """
        chosen, total = self.greedy(weighed, allowed, first)
        if len(chosen) > 1 and chosen[0] == first:
            q = dict(weighed.leaks)
            for index in chosen[1:]:
                self._explain(weighed.candidates[index], q)
            if self.look.gain(weighed.candidates[first], q) <= self.knobs.gain_min:
                return self.greedy(weighed, [i for i in allowed if i != first])
        return chosen, total

    def search(self, weighed: Weighed) -> tuple[list[int], float]:
        """Return the best of the greedy explanations that begin with each of the likeliest."""
        everything = range(len(weighed.candidates))
        seeds: dict[str, int] = {}
        for i in sorted(everything, key=lambda i: (-weighed.candidates[i].gain, i)):
            seeds.setdefault(weighed.candidates[i].fault[1], i)
            if len(seeds) == SEEDS_MAX:
                break
        runs = [self._begun(weighed, everything, seed) for seed in seeds.values()]
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
        leaks = {key: self.look.q(key) for key in symptoms}
        is_assumed = any(candidate.is_beside for candidate in candidates)
        weighed = Weighed(candidates, leaks, showing, assumed=is_assumed)
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
        picked = (weighed.candidates[i] for i in rest)
        # Without a fault nothing is lost but what it adds, though the search may find less.
        margin = min(
            here_total - best_total,
            own.gain - self.look.least,
            astray.margin(self.look, own, picked),
        )
        final = self._margin_final(weighed, own, margin)
        ranking = [(own.fault, own.gain), *others]
        verdict = Verdict(own, margin, final, _sigmoid(margin), ranking, [])
        return verdict, [*far, *best], total - here_total + best_total

    def _margin_final(self, weighed: Weighed, own: Candidate, margin: float) -> float:
        """Return the margin that is left if all that a fault waits for stays silent.

        Until then it also has to hold against other faults of its entity.
        """
        profile = own.profile
        if self.look.now_us - profile.onset_us >= profile.final_us:
            return margin
        entity = own.fault[1]
        same = (c.gain for c in weighed.candidates if c.fault[1] == entity and c is not own)
        least = min(margin, own.gain - max(same, default=-math.inf))
        return least - own.base + self.look.base(profile, profile.final_us)

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
        is_assumed = weighed.assumed or bool(far)
        local = Weighed(weighed.candidates, dict(q), weighed.showing, assumed=is_assumed)
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
            rank = (-max(self.look.gain(candidate, q), candidate.gain - self.knobs.gain_min), i)
            if entity not in best or rank < best[entity]:
                best[entity] = rank
        return [i for _, i in sorted(best.values())[:RIVALS_MAX]]


def _sigmoid(x: float) -> float:
    return 0.5 + 0.5 * math.tanh(x / 2.0)


@dataclass(slots=True)
class Component:
    """What is explained together."""

    symptoms: set[SymptomKey]
    candidates: list[Candidate] = field(default_factory=list)
    spared: set[Fault] = field(default_factory=set)
    """Faults not weighed: a crowd of symptoms that one fault explains holds all of theirs."""
    doubtful: list[str] = field(default_factory=list)
    """Incidents to grant no longer; the component is to be asked for again."""


def component(look: Look, start: SymptomKey) -> Component:
    """Return the free symptoms joined to `start` by faults that could stand, and those faults.

    A fault that would not be believed even if it alone explained all it shows joins nothing: so a
    pool that serves every host does not make one component of all of them.
    """
    found = Component({start})
    waiting = [start]
    met: set[Fault] = set()
    crowds: list[Candidate] = []
    while waiting and len(found.symptoms) < COMPONENT_MAX:
        causes = look.standing.causes(waiting.pop())
        faults = [fault for fault in causes if fault not in met]
        met.update(faults)
        for fault in _largest_first(look, faults):
            support = look.standing.support[fault]
            if len(support) < CLOSE_MAX and any(support.keys() <= c.shows.keys() for c in crowds):
                found.spared.add(fault)
                continue
            candidate, found.doubtful = look.candidate(fault)
            if found.doubtful:
                return found
            if candidate is None:
                continue
            found.candidates.append(candidate)
            if candidate.gain >= CROWD_GAIN and len(candidate.shows) >= CLOSE_MAX:
                crowds.append(candidate)
            joined = sorted(candidate.shows.keys() - found.symptoms)
            found.symptoms.update(joined)
            waiting.extend(joined)
    return found


def _largest_first(look: Look, faults: list[Fault]) -> list[Fault]:
    support = look.standing.support
    return sorted(faults, key=lambda fault: -len(support[fault]))


def explain(look: Look, found: Component) -> Explanation:
    """Return the best explanation of a component; faults that were spared get a say about rests."""
    symptoms = sorted(found.symptoms)
    explanation = Search(look).explain(symptoms, _likeliest(found.candidates))
    rest = (key for key in symptoms if key not in explanation.owner)
    left = {fault for key in rest for fault in look.standing.causes(key)} & found.spared
    weighed = (look.candidate(fault)[0] for fault in sorted(left))
    more = [candidate for candidate in weighed if candidate is not None]
    if not more:
        return explanation
    return Search(look).explain(symptoms, _likeliest(found.candidates + more))


def _likeliest(candidates: list[Candidate]) -> list[Candidate]:
    """Return the likeliest faults, those of smaller footprints first."""
    likeliest = sorted(candidates, key=lambda c: (-c.gain, c.fault))[:CANDIDATES_MAX]
    return sorted(likeliest, key=lambda c: (c.profile.footprint, c.fault))
