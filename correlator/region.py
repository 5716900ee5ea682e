"""What several domains share, judged above them: their digests folded into verdicts.

A resource whose failure shows in two domains has failed; one domain alone may be wrong about it.
Only a word that was said counts, never a silence. No I/O and no clock: whoever asks says when it
is. Bounded by the map of domains. Source: the wire page, "Outputs", and `Digest`.
"""

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from schemas.base import Utc, from_microseconds, to_microseconds
from schemas.control import DomainMap
from schemas.inputs import FRAME_INPUTS_MAX, Verdict
from schemas.outputs import Digest

GATHER_US = 200_000
"""So long others may join a first suspicion before it is answered; its domain waits 300 ms."""
STANDS_US = 60_000_000
"""A verdict is good for so long: three times as long as until it is said anew."""
AGAIN_US = 20_000_000
AHEAD_US = 60_000_000
"""The clocks of two brokers differ by less; one stamp of the year 9999 would silence its domain."""
SURE = 0.999
"""One domain that is so sure by its own evidence needs no second one."""

State = Literal["failed", "working", "unknown"]
_UTC: TypeAdapter[datetime] = TypeAdapter(Utc)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be told of a resource."""

    resource: str
    state: State
    doubted_by: tuple[str, ...]
    """Domains whose newest word is that it may have failed, or has."""
    is_repeat: bool
    """It was said before, and is said anew before it expires."""
    to: frozenset[str] | None = None
    """Domains that are told it; None: every one."""

    def is_for(self, domain: str) -> bool:
        """Claim that a domain is to be told it."""
        return self.to is None or domain in self.to

    def verdict(self, at_us: int) -> Verdict:
        """Return it as an input of a log, good from now on."""
        expires_at = from_microseconds(at_us + STANDS_US)
        return Verdict.model_validate(
            {
                "resource": self.resource,
                "state": self.state,
                "at": from_microseconds(at_us),
                "expires_at": expires_at,
            }
        )


@dataclass(frozen=True, slots=True)
class _Word:
    """The newest digest of one domain on one resource."""

    told_us: int
    state: str
    is_sure: bool

    @property
    def doubts(self) -> bool:
        return self.state != "working"


@dataclass(slots=True)
class _Case:
    """One shared resource."""

    words: dict[str, _Word] = field(default_factory=dict)
    since_us: int | None = None
    """Since when somebody doubts it; None: nobody does."""
    askers: set[str] = field(default_factory=set)
    """Domains that have doubted it since then."""
    echoes: set[str] = field(default_factory=set)
    """Domains that are asked anew, and have not answered yet."""
    must_recall: bool = False
    """It was said to have failed, and not yet that it works."""
    is_begun: bool = False
    """Something was said of it."""
    accusers: frozenset[str] = frozenset()
    """Domains by whose words it has failed; that stands until each of them takes its own back."""
    said: State | None = None
    """Since the doubt began, or ended: a new doubt is answered, whatever was said before it."""
    due_us: int | None = 0
    """When it is to be answered next; at first at once, so that each domain knows it is shared."""

    def doubters(self) -> list[str]:
        return sorted(name for name, word in self.words.items() if word.doubts)

    def hears(self, domain: str, word: _Word, now_us: int) -> None:
        """Take in a word that is newer than the one before it."""
        before = self.words.get(domain)
        self.words[domain] = word
        self.echoes.discard(domain)
        doubters = self.doubters()
        if self.accusers:
            if self.accusers.isdisjoint(doubters):
                self._acquit(doubters, now_us)
            return
        if not doubters:
            if self.since_us is not None and not self.echoes:
                self.since_us = None
                self._answer_at(now_us)
            return
        if self.since_us is None:
            self.since_us, self.said, self.askers = now_us, None, set()
            self._answer_at(now_us + GATHER_US)
        self.askers.update(doubters)
        if len(doubters) > 1 or word.is_sure:
            self.accusers, self.must_recall = frozenset(doubters), True
            self._answer_at(now_us)
        elif self.said == "unknown" and not word.doubts and (before is None or before.doubts):
            # Only what is news: a domain says all anew where it is told that nobody knows.
            self._answer_at(max(now_us, self.since_us + GATHER_US))

    def _acquit(self, doubters: list[str], now_us: int) -> None:
        """Let it be failed no longer, since nobody says so but on our own word.

        Those who have doubted it only since then are asked anew, by a word that nobody knows; and
        so is who was asked before, and has not answered yet.
        """
        self.accusers = frozenset()
        self.echoes.update(doubters)
        self.since_us, self.said = (now_us, None) if self.echoes else (None, self.said)
        for name in doubters:
            del self.words[name]
        self._answer_at(now_us)

    def judged(self, now_us: int, spoken: Container[str]) -> State:
        """Return what is to be said of it now."""
        if self.accusers:
            return "failed"
        if self.since_us is None:
            return "working" if self.is_begun or self.must_recall else "unknown"
        if now_us < self.since_us + GATHER_US:
            return "unknown"
        works = any(name in spoken for name, word in self.words.items() if not word.doubts)
        return "working" if works else "unknown"

    def says(self, state: State, now_us: int) -> frozenset[str] | None:
        """Know that it is being said, and when it is to be said anew; return to whom.

        That it works goes to those who asked: another's own doubt may only be late, and the word
        would silence it. What was said to have failed works for all.
        """
        to = None
        if state == "working":
            to = None if self.must_recall else frozenset(self.askers)
            self.must_recall = False
        self.said, self.is_begun = state, True
        if self.since_us is None:
            self.due_us = None
        elif self.accusers or now_us >= self.since_us + GATHER_US:
            self.due_us = now_us + AGAIN_US
        else:
            self.due_us = self.since_us + GATHER_US
        return to

    def _answer_at(self, at_us: int) -> None:
        self.due_us = at_us if self.due_us is None else min(self.due_us, at_us)


class Region:
    """Holds the newest word of each domain on each shared resource, and says what follows.

    Times are of one's own clock, which must not go back, but for the stamps of digests.
    """

    def __init__(self, domains: DomainMap) -> None:
        self._domains = domains
        self._cases = {name: _Case() for name in sorted(set(domains.shared))}
        self.counts: Counter[str] = Counter()
        """Digests by what became of them."""

    def fold(self, value: bytes, log_us: int, now_us: int) -> None:
        """Take in a message of the region's topic; what says nothing new only counts.

        log_us: the stamp that the topic gave it.
        """
        try:
            given = Digest.model_validate_json(value)
            told_us = to_microseconds(_UTC.validate_python(given.told_at))
        except ValidationError:
            self.counts["unreadable"] += 1
            return
        what = self._amiss(given)
        if not what and told_us > log_us + AHEAD_US:
            what = "ahead"
        self.counts[what or self._taken(given, told_us, now_us)] += 1

    def _amiss(self, given: Digest) -> str:
        if given.resource not in self._cases:
            return "not_shared"
        if given.domain not in self._domains.by_name:
            return "unknown_domain"
        if given.log_generation != self._domains.log_generation:
            return "other_generation"
        return ""

    def _taken(self, given: Digest, told_us: int, now_us: int) -> str:
        case = self._cases[given.resource]
        before = case.words.get(given.domain)
        if before is not None and told_us < before.told_us:
            return "late"
        is_sure = given.state == "failed" and given.confidence >= SURE
        case.hears(given.domain, _Word(told_us, given.state, is_sure), now_us)
        return "folded"

    def due_us(self) -> int | None:
        """Return when there is something to answer; None: not before the next digest."""
        due = (case.due_us for case in self._cases.values() if case.due_us is not None)
        return min(due, default=None)

    def answers(self, now_us: int, spoken: Container[str]) -> list[Answer]:
        """Return what is to be told now, failures first, as much as one frame holds.

        spoken: domains that a worker speaks for now; what others have said may be long past.
        """
        due = [
            (case.judged(now_us, spoken), case.due_us, name)
            for name, case in self._cases.items()
            if case.due_us is not None and case.due_us <= now_us
        ]
        due.sort(key=lambda one: (one[0] != "failed", *one[1:]))
        return [self._said(name, state, now_us) for state, _, name in due[:FRAME_INPUTS_MAX]]

    def _said(self, name: str, state: State, now_us: int) -> Answer:
        case = self._cases[name]
        is_repeat = case.said == state
        to = case.says(state, now_us)
        return Answer(name, state, tuple(case.doubters()), is_repeat, to)
