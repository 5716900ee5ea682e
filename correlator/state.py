"""`EngineState`: the one mutable object, everything the engine remembers of a domain.

It has a canonical JSON form: the same inputs give the same bytes, and an engine restored from
them goes on exactly as the first would have. Times are microseconds; nothing here reads a clock.
"""

import heapq
from bisect import bisect_right
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

from correlator.topology import Topology, from_document
from schemas.base import canonical
from schemas.topology import TopologySchema

SymptomKey = tuple[str, str]
"""(symptom, entity)."""
FaultName = tuple[str, str]
"""(signature, entity)."""

EVENT_IDS_MAX = 65_536
"""Ids remembered per generation to know a duplicate; two generations are kept."""
HELD = -1
"""In place of a time: it has not come yet."""
SHIFTS_MAX = 1_000
"""Gaps of a live log remembered, to tell its own stamps of what was before them."""
ROOTS_MAX = 10_000
"""Causes remembered for the guards that count them."""
KEPT_MAX = 5
"""Event ids and sources kept per sighting, the oldest first."""


@dataclass(slots=True)
class Sighting:
    """One symptom on one entity."""

    first_us: int
    last_us: int
    source: str
    count: int = 1
    cleared_us: int | None = None
    event_ids: list[str] = field(default_factory=list)
    incident: str | None = None
    witnesses: dict[str, int] = field(default_factory=dict)
    """Source that saw it live → since when; up to five; what was spooled bears no witness."""
    stamps: dict[str, int] = field(default_factory=dict)
    """Source → when it last spoke of this, by its own clock; the last few sources."""
    planes: dict[str, list[str]] = field(default_factory=dict)
    """Network it was seen over, e.g. mgmt, where its events name one → by which witnesses."""
    told_us: dict[str, int] = field(default_factory=dict)
    """witness → when it last told of it."""
    is_unknown: bool = False
    """Whoever saw it knows no longer whether it is so."""

    @property
    def came_us(self) -> int:
        """Return when it became known: a list may tell late of what began long before."""
        return max(self.first_us, min(self.witnesses.values(), default=0))

    @property
    def tellers(self) -> list[str]:
        """Return who sees it, as entities, sorted; what one tells by several ways is his alone."""
        return sorted({name.partition("/")[0] for name in self.witnesses})


@dataclass(slots=True)
class Clear:
    """A clear of something that did not stand: its raise may still be on its way."""

    came_us: int
    stamps: dict[str, int] = field(default_factory=dict)
    """Source → when it said so, by its own clock."""


@dataclass(slots=True)
class Sent:
    """One action that left, and what came back."""

    key: str
    verb: str
    target: str
    step: int
    sent_us: int
    state: str = "SENT"
    method: str = ""
    due_us: int = 0
    """Live time from which a result is no longer waited for; 0: for ever."""
    attempt: int = 0
    token: int = 0
    generation: int = 0
    """Of the target when it was decided: sent again, it still means that life of it."""
    boot_id: str = ""
    epoch: int | None = None
    """Under which it last left."""
    accepted_us: int | None = None
    """When its actuator was last known to be at it, live time."""
    policy: str = ""
    left_us: int = 0
    """Log time of the decision; `expires_us` is log time too."""
    expires_us: int = 0
    ended_us: int = 0
    """Live time from which nothing more comes of it; 0: not yet."""
    source: str = ""
    """Host that a workload is taken from."""
    supersedes: str = ""
    on_timeout: str = "none"
    evidence: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)
    placement: dict[str, Any] = field(default_factory=dict)
    """Where its target is brought, as the action says it."""
    vnfm: dict[str, Any] = field(default_factory=dict)
    """Of a notice to an owner: who is told, and until when its word is waited for."""
    ended_with: str = ""
    """Key of the fence of its destination, where it has ended with that."""


@dataclass(slots=True)
class IncidentState:
    """One incident from its opening to its end."""

    incident_id: str
    opened_us: int
    onset_us: int
    fault: FaultName
    state: str = "open"
    update: int = 0
    updated_us: int = 0
    final_us: int = 0
    """When the last look that time alone asks for is due."""
    since_us: int = 0
    check_us: int | None = None
    """When it is next checked whether it has ended."""
    confidence: float = 0.0
    margin: float = 0.0
    weighed_us: int = 0
    """When its cause was last weighed against all that stood."""
    worth: float = 0.0
    """What its cause gained by itself then, nats."""
    granted: float = 0.0
    """Nats by which its cause is taken for granted where others are weighed; 0: it is not."""
    is_final: bool = False
    """Nothing that its cause still waits for could undo it by staying silent."""
    ranking: list[tuple[str, str, float]] = field(default_factory=list)
    revises: list[str] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    attempts: dict[str, list[int]] = field(default_factory=dict)
    """"verb target" → where its attempts are in `sent`."""
    said: dict[str, str] = field(default_factory=dict)
    mode: str = "dry_run"
    targets: dict[str, list[str]] = field(default_factory=dict)
    """Targets of each step as they were when its plan began: what moves on is not followed."""
    approval: str = ""
    """`approved` or `rejected`, once an operator has said so."""
    retries: int = 0
    """How often an operator has asked for the whole ladder again."""
    calm_us: int | None = None
    """When the storm that held its plan had passed; HELD while it lasts, None: there was none."""
    is_released: bool = False
    """An operator has approved its plan although a storm held it."""


@dataclass(slots=True)
class Session:
    """A maintenance session."""

    until_us: int | None
    by: str
    reason: str
    told: bool = False
    """A fault that it explains has been told of."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A resource that several domains depend on."""

    word: str = ""
    """The region's: failed, working or unknown; empty: none since this was asked."""
    until_us: int | None = None
    """Log time after which that says nothing."""
    told: str = ""
    """What was told of it last."""
    asked_us: int | None = None
    """Since when it is suspected here, live time."""


@dataclass
class EngineState:
    """Everything the engine remembers; part of it is the topology, edited by the log."""

    domain: str
    topology: Topology
    rules_hash: str
    ticks: str = "synthesised"
    log_generation: str = "0"
    log_us: int = 0
    live_us: int = 0
    shifts_us: list[tuple[int, int]] = field(default_factory=list)
    """(live time, how far the log's stamps are ahead of it from then on); none: not at all."""
    offset: int = -1
    index: int = -1
    epoch: int | None = None
    mode: str = "dry_run"
    hold: str | None = None
    gap_until_us: int = -1
    gaps_us: list[int] = field(default_factory=list)
    sightings: dict[SymptomKey, Sighting] = field(default_factory=dict)
    windows: dict[SymptomKey, deque[int]] = field(default_factory=dict)
    alive: dict[SymptomKey, int] = field(default_factory=dict)
    overtaking: dict[SymptomKey, Clear] = field(default_factory=dict)
    pulses: dict[str, tuple[int, str]] = field(default_factory=dict)
    clocks: dict[str, int] = field(default_factory=dict)
    """Source → the least that the log's stamp was ahead of its own clock."""
    heard_us: dict[str, int] = field(default_factory=dict)
    """Host → when its own collector was last heard, live time."""
    levels: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    incidents: dict[str, IncidentState] = field(default_factory=dict)
    ended: dict[str, IncidentState] = field(default_factory=dict)
    """Incidents that are over, until what they had quarantined is let back."""
    sessions: dict[str, Session] = field(default_factory=dict)
    shared: dict[str, Shared] = field(default_factory=dict)
    """What several domains depend on: the region has spoken of it."""
    generations: dict[str, int] = field(default_factory=dict)
    boots: dict[str, str] = field(default_factory=dict)
    booted_us: dict[str, int] = field(default_factory=dict)
    fenced: dict[str, int] = field(default_factory=dict)
    """Entity that is proven fenced, and not let back yet → since when."""
    fence_tokens: dict[str, int] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    roots_us: list[tuple[int, str]] = field(default_factory=list)
    actions_us: dict[str, list[int]] = field(default_factory=dict)
    """Policy → when it acted, as far back as a budget looks."""
    begun_us: dict[str, list[int]] = field(default_factory=dict)
    """"verb target" of a fence or a restart → when one was begun."""
    deadlines: list[tuple[int, str, str, str]] = field(default_factory=list)
    recent_ids: set[str] = field(default_factory=set)
    older_ids: set[str] = field(default_factory=set)
    dirty: set[SymptomKey] = field(default_factory=set)
    rests_until_us: int = 0
    """No look before that, live time: the last one was large."""
    counters: dict[str, int] = field(default_factory=dict)

    def note_shift(self) -> None:
        """Remember how far live time lags behind the log where that has changed: after a gap."""
        shift_us = self.log_us - self.live_us
        if shift_us != (self.shifts_us[-1][1] if self.shifts_us else 0):
            self.shifts_us.append((self.live_us, shift_us))
            del self.shifts_us[:-SHIFTS_MAX]

    def stamp_us(self, live_us: int) -> int:
        """Return the log time of a live time that is over."""
        if not self.shifts_us:
            return live_us
        after = bisect_right(self.shifts_us, live_us, key=lambda one: one[0])
        return live_us + self.shifts_us[max(after - 1, 0)][1]

    def wake(self, at_us: int, what: str, first: str = "", second: str = "") -> None:
        """Ask to be woken at a live time; the same request twice is harmless."""
        heapq.heappush(self.deadlines, (at_us, what, first, second))

    def count(self, name: str, by: int = 1) -> None:
        """Count something that is not worth a message of its own."""
        self.counters[name] = self.counters.get(name, 0) + by

    def count_root(self, entity: str) -> None:
        """Remember when an entity was found to be a cause, or ended like one (I5)."""
        self.roots_us.append((self.live_us, entity))
        del self.roots_us[:-ROOTS_MAX]

    def count_action(self, policy: str, window_us: int) -> None:
        """Remember when a policy acted, as far back as a budget looks (I5)."""
        self._count(self.actions_us, policy, window_us)

    def count_begun(self, place: str, window_us: int) -> None:
        """Remember when a fence or a restart of a target was begun, as far back as its limit."""
        self._count(self.begun_us, place, window_us)

    def _count(self, times_us: dict[str, list[int]], name: str, window_us: int) -> None:
        since_us = self.live_us - window_us
        before = (at for at in times_us.get(name, ()) if at >= since_us)
        times_us[name] = [*before, self.live_us]

    def next_generation(self, entity: str) -> None:
        """Count an observed boot, start or placement."""
        self.generations[entity] = self.generations.get(entity, 0) + 1

    def is_duplicate(self, event_id: str) -> bool:
        """Remember an id; claim that it was known already."""
        if event_id in self.recent_ids or event_id in self.older_ids:
            return True
        self.recent_ids.add(event_id)
        if len(self.recent_ids) >= EVENT_IDS_MAX:
            self.older_ids, self.recent_ids = self.recent_ids, set()
        return False

    def document(self) -> dict[str, Any]:
        """Return the canonical JSON form; the topology in its neutral form."""
        plain = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("topology", *_KEYED, *_SETS)
        }
        plain["deadlines"] = sorted(set(self.deadlines))
        plain["incidents"] = {k: asdict(v) for k, v in sorted(self.incidents.items())}
        plain["ended"] = {k: asdict(v) for k, v in sorted(self.ended.items())}
        plain["shared"] = {k: asdict(v) for k, v in sorted(self.shared.items())}
        plain["sessions"] = {k: asdict(v) for k, v in sorted(self.sessions.items())}
        for name in _KEYED:
            table = getattr(self, name)
            plain[name] = [[*key, _row(table[key])] for key in sorted(table)]
        for name in _SETS:
            plain[name] = sorted(getattr(self, name))
        return {**plain, "topology": self.topology.document()}

    def text(self) -> str:
        """Return the canonical bytes of the state as text."""
        return canonical(self.document())


_KEYED = ("sightings", "windows", "alive", "overtaking")
_SETS = ("recent_ids", "older_ids", "dirty")


def _row(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Sighting | Clear):
        return asdict(value)
    return list(value) if isinstance(value, deque) else value


def restore(document: dict[str, Any], schema: TopologySchema) -> EngineState:
    """Return the state that a document describes; the inverse of `EngineState.document`."""
    topology = from_document(document["topology"], schema)
    values = {k: v for k, v in document.items() if k != "topology"}
    values["sightings"] = {(s, e): Sighting(**row) for s, e, row in document["sightings"]}
    values["windows"] = {(s, e): deque(row) for s, e, row in document["windows"]}
    values["alive"] = {(s, e): row for s, e, row in document["alive"]}
    values["overtaking"] = {(s, e): Clear(**row) for s, e, row in document["overtaking"]}
    values["incidents"] = {k: _incident(v) for k, v in document["incidents"].items()}
    values["ended"] = {k: _incident(v) for k, v in document["ended"].items()}
    values["shared"] = {k: Shared(**v) for k, v in document["shared"].items()}
    values["sessions"] = {k: Session(**v) for k, v in document["sessions"].items()}
    values["pulses"] = {k: (v[0], v[1]) for k, v in document["pulses"].items()}
    values["levels"] = {k: [(f[0], f[1]) for f in v] for k, v in document["levels"].items()}
    values["roots_us"] = [(t, root) for t, root in document["roots_us"]]
    values["shifts_us"] = [(since, shift) for since, shift in document["shifts_us"]]
    values["deadlines"] = [(a, b, c, d) for a, b, c, d in document["deadlines"]]
    values["recent_ids"] = set(document["recent_ids"])
    values["older_ids"] = set(document["older_ids"])
    values["dirty"] = {(s, e) for s, e in document["dirty"]}
    heapq.heapify(values["deadlines"])
    return EngineState(topology=topology, **values)


def _incident(document: dict[str, Any]) -> IncidentState:
    values = dict(document)
    values["fault"] = tuple(values["fault"])
    values["ranking"] = [tuple(row) for row in values["ranking"]]
    values["sent"] = [Sent(**row) for row in values["sent"]]
    return IncidentState(**values)
