"""Shadow rules: a site's log folded by other rules, and what they would have decided differently.

Nothing is emitted. What was published is compared with what the other rules say, up to the last
offset of which the correlator itself says that all has left: what is still on its way is no
difference.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from correlator.engine import Engine
from correlator.frames import opened
from correlator.live import Fold, Told
from correlator.rules import RuleSet
from correlator.signing import Verifier
from correlator.state import EngineState
from correlator.topology import Topology
from firstfault.log import Record
from firstfault.operations import Site, following, kept, said
from schemas.base import from_microseconds
from schemas.inputs import Tick
from schemas.keys import KeySet
from schemas.outputs import Action, Decision, Incident
from schemas.topics import ACTIONS, DECISIONS, INCIDENTS, LOG

SAME_S = 60.0
"""Two incidents of one root that open so near to each other are one, called differently."""
ABOUT_RULES = frozenset({"rules_activated", "rules_unknown"})
"""Reasons that only say which rules are active."""

Sign = Literal["+", "-", "~"]
"""added by the other rules; missing with them; changed."""


@dataclass(frozen=True)
class Difference:
    """One thing that the other rules would have said differently."""

    what: Literal["incident", "decision", "action"]
    sign: Sign
    text: str
    count: int = 1
    at: str = ""
    """Log time of the first."""


@dataclass
class Sayings:
    """What was said of a stretch of a log: incidents as they last stood, decisions, actions."""

    incidents: dict[str, Incident] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    actions: dict[str, Action] = field(default_factory=dict)
    """By idempotency key: what was sent again under a new epoch is one."""

    def add(self, output: object) -> None:
        """Take in what was said, in order."""
        if isinstance(output, Incident):
            before = self.incidents.get(output.incident_id)
            if before is None or output.update >= before.update:
                self.incidents[output.incident_id] = output
        elif isinstance(output, Decision) and output.reason not in ABOUT_RULES:
            self.decisions.append(output)
        elif isinstance(output, Action):
            self.actions.setdefault(output.idempotency_key, output)


@dataclass(frozen=True)
class Report:
    """What a shadow fold has found."""

    records: int
    """Messages of the log that were folded."""
    first_at: str
    """Log time of the first; nothing is known of what was before."""
    last_at: str
    """Log time up to which it was compared."""
    differences: list[Difference]


class Shadow:
    """Folds one domain by rules that are not in force."""

    def __init__(
        self, site: Site, rules: RuleSet, topology: Topology, keys: tuple[KeySet, ...] = ()
    ) -> None:
        self._site = site
        state = EngineState(site.domain, topology, rules.hash, ticks="recorded")
        verifier = Verifier.from_start(site.domain, site.log_generation, keys) if keys else None
        self._fold = Fold(Engine(state, rules), 0, verifier)
        self._waiting: deque[Told] = deque()
        """Said at offsets of which nobody knows yet whether all has left."""
        self._stamps: deque[tuple[int, int]] = deque()
        """(offset, stamp) of those."""
        self._told = Sayings()
        self._records, self._first_us, self._through_us = 0, 0, 0

    async def run(self, for_s: float) -> Report:
        """Fold what the log holds, and what comes for so long; return what differs."""
        offset = (await self._site.log.span(LOG, self._site.partition)).first
        async for record in kept(self._site, LOG):
            self._take(record)
            offset = record.offset + 1
        if for_s:
            async for record in following(self._site, LOG, offset, for_s):
                self._take(record)
        first_at, last_at = map(from_microseconds, (self._first_us, self._through_us))
        published = await _published(self._site, first_at, last_at)
        differences = list(compared(published, self._told))
        return Report(self._records, first_at, last_at, differences)

    def _take(self, record: Record) -> None:
        self._first_us = self._first_us or record.log_us
        self._records += 1
        self._stamps.append((record.offset, record.log_us))
        frame = opened(record.offset, record.log_us, record.value)
        if frame.domain == self._site.domain:
            self._waiting.extend(self._fold.fold(record, frame))
            for given in self._fold.heard:
                if isinstance(given, Tick):
                    self._settle(given.published_through)

    def _settle(self, through: int) -> None:
        """Count what was said up to an offset, for the same of the published has left."""
        while self._stamps and self._stamps[0][0] <= through:
            self._through_us = self._stamps.popleft()[1]
        while self._waiting and self._waiting[0].offset <= through:
            self._told.add(self._waiting.popleft().output)


async def _published(site: Site, first_at: str, last_at: str) -> Sayings:
    """Return what was published of a stretch of log time."""
    told = Sayings()
    async for _, incident in said(site, INCIDENTS, Incident):
        if first_at <= incident.opened_at and incident.updated_at <= last_at:
            told.add(incident)
    async for _, decision in said(site, DECISIONS, Decision):
        if first_at <= decision.decided_at <= last_at:
            told.add(decision)
    async for _, action in said(site, ACTIONS, Action):
        if first_at <= action.not_before <= last_at:
            told.add(action)
    return told


# ---- comparing -----------------------------------------------------------------------------


def compared(published: Sayings, other: Sayings) -> Iterable[Difference]:
    """Yield what differs: incidents first, then actions, then decisions."""
    yield from _incidents(published.incidents, other.incidents)
    actions = [map(_action, one.actions.values()) for one in (published, other)]
    yield from _counted("action", *actions)
    decisions = [map(_decision, one.decisions) for one in (published, other)]
    yield from _counted("decision", *decisions)


def _action(action: Action) -> tuple[str, str]:
    """Return (what it is, when): an action is another if its verb, target, method or mode is."""
    method = f" by {action.method}" if action.method else ""
    return f"{action.verb} {action.target}{method} ({action.mode})", action.not_before


def _decision(decision: Decision) -> tuple[str, str]:
    policy = f", policy {decision.policy}" if decision.policy else ""
    text = f"{decision.verdict} {decision.entity}: {decision.reason}{policy}"
    return text, decision.decided_at


def _counted(
    what: Literal["action", "decision"],
    published: Iterable[tuple[str, str]],
    other: Iterable[tuple[str, str]],
) -> Iterable[Difference]:
    """Yield of what one says more often than the other, by how much, and when first."""
    here, there = list(published), list(other)
    counts = Counter(text for text, _ in there)
    counts.subtract(Counter(text for text, _ in here))
    first = dict(reversed([*here, *there]))
    found = [
        Difference(what, "+" if count > 0 else "-", text, abs(count), first[text])
        for text, count in counts.items()
        if count
    ]
    yield from sorted(found, key=lambda one: (one.at, one.text))


def _incidents(published: dict[str, Incident], other: dict[str, Incident]) -> Iterable[Difference]:
    pairs = list(_paired(published, other))
    found = [_incident(one, two) for one, two in pairs]
    yield from sorted((one for one in found if one), key=lambda one: (one.at, one.text))


def _paired(
    published: dict[str, Incident], other: dict[str, Incident]
) -> Iterable[tuple[Incident | None, Incident | None]]:
    """Yield what is one incident for both: by its id, else by its root and when it opened."""
    left = {name: one for name, one in other.items() if name not in published}
    for name, incident in published.items():
        match = other.get(name)
        if match is None:
            near = (key for key, one in left.items() if _is_near(incident, one))
            match = left.pop(next(near, ""), None)
        yield incident, match
    for incident in left.values():
        yield None, incident


def _is_near(one: Incident, two: Incident) -> bool:
    if one.causes[0].entity != two.causes[0].entity:
        return False
    apart = datetime.fromisoformat(one.opened_at) - datetime.fromisoformat(two.opened_at)
    return abs(apart.total_seconds()) <= SAME_S


def _incident(one: Incident | None, two: Incident | None) -> Difference | None:
    if one is None and two is not None:
        return Difference("incident", "+", _words(two), at=two.opened_at)
    if two is None and one is not None:
        return Difference("incident", "-", _words(one), at=one.opened_at)
    if one is None or two is None or _words(one) == _words(two):
        return None
    return Difference("incident", "~", f"{_words(one)} → {_words(two)}", at=one.opened_at)


def _words(incident: Incident) -> str:
    cause = incident.causes[0]
    return f"{incident.state} {cause.signature} of {cause.entity}"


def document(report: Report) -> dict[str, Any]:
    """Return a report as one JSON value."""
    return {
        "records": report.records,
        "first_at": report.first_at,
        "last_at": report.last_at,
        "same": not report.differences,
        "differences": [asdict(one) for one in report.differences],
    }
