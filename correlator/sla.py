"""Did each class of workload get what it is promised: detection and recovery of every outage.

Pure, from the record of a replay. An *outage* is a workload that incidents say was hit, from their
first symptom to their end; incidents of one workload that overlap are one outage. It is detected
when an incident is told as open, and recovered when an action for it is CONFIRMED. Nobody knows in
a record when a fault began: the first symptom is the earliest that was said of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from correlator.recorded import Record
from correlator.rules import RuleSet
from correlator.rules.paths import parse_path, walk
from correlator.rules.settings import effective
from correlator.score import quantile
from correlator.topology import Topology
from schemas.base import kind_of, to_microseconds
from schemas.outputs import WORKLOAD_VERBS, Action, Digest, Incident
from schemas.rules import LevelBudget, ServiceLevels, Step

WORKLOADS = frozenset({"vm", "vnf"})
RESTORING = (WORKLOAD_VERBS - {"live_migrate"}) | {"failover_vnf"}
"""Verbs whose target is down; a live migration may be done before anything is."""
REPAIRS = frozenset({"failover_link", "restart_process", "reschedule_net"})
"""Verbs that mend the cause itself, and so all it has hit."""
LEVELS = tuple(ServiceLevels.model_fields)
NO_LEVEL = "none"
"""The row of workloads that no settings document gives a level."""
LIKELY = 0.5
"""A cell of at least this chance says that what is there is hit."""
FOR_EVER_US = 1 << 62


@dataclass(frozen=True, slots=True)
class Outage:
    """One workload from the first symptom to the end; times are microseconds since 1970."""

    case: str
    workload: str
    level: str
    first_us: int
    told_us: int
    end_us: int
    wanted: bool
    """Its recovery is ours: a plan or an action of an incident speaks of it."""
    recovered_us: int | None = None
    by: str = ""
    """The verb that recovered it."""

    @property
    def detection_s(self) -> float:
        """Seconds from the first symptom until an incident was told as open."""
        return (self.told_us - self.first_us) / 1e6

    @property
    def recovery_s(self) -> float | None:
        """Seconds from the first symptom until its recovery was CONFIRMED; None if it never was."""
        return None if self.recovered_us is None else (self.recovered_us - self.first_us) / 1e6


@dataclass(slots=True)
class Story:
    """What was said of one incident."""

    case: str
    told: list[tuple[int, Incident]] = field(default_factory=list)
    actions: dict[str, Action] = field(default_factory=dict)
    """idempotency key → action"""
    confirmed: list[tuple[int, str]] = field(default_factory=list)
    """(when, idempotency key), in order"""

    @property
    def opened_us(self) -> int | None:
        """When it was first told as open; None if it never was more than suspected."""
        return next((at for at, one in self.told if one.state == "open"), None)

    @property
    def end_us(self) -> int:
        """When it was told as cleared."""
        return next((at for at, one in self.told if one.state == "cleared"), FOR_EVER_US)


def stories(record: Record) -> list[Story]:
    """Return what was said of each incident, in the order of their first words."""
    found: dict[tuple[str, str], Story] = {}
    for spoken in record.said:
        output = spoken.output
        if isinstance(output, Digest) or not output.incident_id:
            continue
        story = found.setdefault((spoken.case, output.incident_id), Story(spoken.case))
        if isinstance(output, Incident):
            story.told.append((_us(spoken.log_at), output))
        elif isinstance(output, Action):
            story.actions[output.idempotency_key] = output
        elif output.reason == "result" and (output.policy or "").endswith(" CONFIRMED"):
            key = str(output.policy).removesuffix(" CONFIRMED")
            story.confirmed.append((_us(output.decided_at), key))
    return list(found.values())


def _us(text: str) -> int:
    return to_microseconds(datetime.fromisoformat(text))


# ---- who was hit, and when it was well again ------------------------------------------------


def outages(record: Record, rules: RuleSet) -> list[Outage]:
    """Return every outage of a workload, in the order of their first symptoms."""
    found: dict[tuple[str, str], list[Outage]] = {}
    for story in stories(record):
        for outage in _of_story(story, record.topology, rules):
            found.setdefault((outage.case, outage.workload), []).append(outage)
    merged = (one for parts in found.values() for one in _merged(parts))
    return sorted(merged, key=lambda one: (one.first_us, one.case, one.workload))


def _of_story(story: Story, topology: Topology, rules: RuleSet) -> Iterator[Outage]:
    opened_us = story.opened_us
    if opened_us is None:
        return
    causes = sorted({(one.causes[0].signature, one.causes[0].entity) for _, one in story.told})
    sent = {one.target for one in story.actions.values() if one.verb in RESTORING}
    ours = sent.union(*(_planned(cause, topology, rules) for cause in causes))
    seen = [one for _, told in story.told for one in told.evidence if one.role == "for"]
    hit = ours.union({root for _, root in causes}, {one.entity for one in seen})
    hit |= set().union(*(_reached(cause, topology, rules) for cause in causes))
    ours = hit if _mends(story) else ours
    first_us = min(_first_us(told) for _, told in story.told)
    for workload in sorted(one for one in hit if kind_of(one) in WORKLOADS):
        said = effective(rules.settings, workload)
        wanted = workload in ours and said.recover
        level = said.sla or NO_LEVEL
        outage = Outage(story.case, workload, level, first_us, opened_us, story.end_us, wanted)
        well = _recovery(story, workload, hit, topology) if wanted else None
        yield replace(outage, recovered_us=well[0], by=well[1]) if well else outage


def _first_us(incident: Incident) -> int:
    """Return the log time of the first symptom that a word on an incident names."""
    seen = [one.first_at for one in incident.evidence if one.role == "for" and one.first_at]
    return min(map(_us, [*seen, incident.onset_at]))


def _planned(cause: tuple[str, str], topology: Topology, rules: RuleSet) -> set[str]:
    """Return whom the policy for a cause means to restore."""
    signature, root = cause
    named = [one for one in rules.policies if signature in one.cause]
    general = [one for one in rules.policies if "*" in one.cause]
    found: set[str] = set()
    for policy in [*named, *general][:1]:
        for verb, step in ((v, s or Step()) for entry in policy.do for v, s in entry.items()):
            path = step.target.removeprefix("$root").removeprefix(".")
            if verb in RESTORING:
                found |= set(walk(topology, root, parse_path(path)) if path else [root])
    return found


def _reached(cause: tuple[str, str], topology: Topology, rules: RuleSet) -> set[str]:
    """Return where a fault is expected to show: an incident lists its weightiest evidence only."""
    name, root = cause
    if kind_of(root) == "app":
        return set(walk(topology, root, parse_path("^vm")))
    cells = (cell for spec in rules.signatures if spec.name == name for cell in spec.cells)
    likely = [cell.path for cell in cells if not cell.optional and cell.p >= LIKELY]
    return set().union(*(walk(topology, root, path) for path in likely))


def _mends(story: Story) -> bool:
    return any(one.verb in REPAIRS for one in story.actions.values())


def _recovery(
    story: Story, workload: str, hit: set[str], topology: Topology
) -> tuple[int, str] | None:
    """Return when a workload was well again, and by which verb; None if it never was.

    By an action of its own, a repair of the cause, or a fail-over of the function it belongs to;
    a function also when every VM of it that was hit is well.
    """
    with_it = {workload}
    if kind_of(workload) == "vm":
        for path in ("vnf", "app.vnf"):
            with_it |= set(walk(topology, workload, parse_path(path)))
    for at_us, key in story.confirmed:
        action = story.actions.get(key)
        if action is None or action.mode == "dry_run":
            continue
        is_own = action.target == workload and action.verb in WORKLOAD_VERBS
        moved = action.target in with_it and action.verb == "failover_vnf"
        if is_own or moved or action.verb in REPAIRS:
            return at_us, action.verb
    if kind_of(workload) == "vm":
        return None
    paths = (parse_path(path) for path in ("^vm", "^app.^vm"))
    members = {vm for path in paths for vm in walk(topology, workload, path)} & hit
    well = [_recovery(story, vm, hit, topology) for vm in sorted(members)]
    known = [one for one in well if one is not None]
    return max(known) if known and len(known) == len(well) else None


def _merged(parts: Sequence[Outage]) -> list[Outage]:
    """Return the outages of one workload, those that overlap as one."""
    done: list[Outage] = []
    for one in sorted(parts, key=lambda part: part.first_us):
        if not done or one.first_us > done[-1].end_us:
            done.append(one)
            continue
        last = done[-1]
        known = [part for part in (last, one) if part.recovered_us is not None]
        best = min(known, key=lambda part: part.recovered_us or 0, default=last)
        done[-1] = replace(
            last,
            told_us=min(last.told_us, one.told_us),
            end_us=max(last.end_us, one.end_us),
            wanted=last.wanted or one.wanted,
            recovered_us=best.recovered_us,
            by=best.by,
        )
    return done


# ---- figures --------------------------------------------------------------------------------


def report(found: Sequence[Outage], levels: ServiceLevels) -> dict[str, Any]:
    """Return the figures of each level: what it got, and what it is promised."""
    rows = {}
    for level in (*LEVELS, NO_LEVEL):
        some = [one for one in found if one.level == level]
        rows[level] = _row(some, getattr(levels, level, None))
    return {"levels": rows, "met": all(_is_met(row) for row in rows.values())}


def _row(some: Sequence[Outage], budget: LevelBudget | None) -> dict[str, Any]:
    wanted = [one for one in some if one.wanted]
    verbs = sorted({one.by for one in wanted} - {""})
    detection = [one.detection_s for one in some]
    recovery = [one.recovery_s for one in wanted]
    return {
        "outages": len(some),
        "detection": _part(detection, budget.detection if budget else None),
        "recovery": _part(recovery, budget.recovery if budget else None),
        "recovered_by": {verb: sum(one.by == verb for one in wanted) for verb in verbs},
    }


def _part(taken_s: Sequence[float | None], budget_s: float | None) -> dict[str, Any]:
    """Return figures of some durations; None among them is one that never came to its end."""
    known = [one for one in taken_s if one is not None]
    part: dict[str, Any] = {"wanted": len(taken_s), "count": len(known)}
    for name, share in (("p50_s", 0.5), ("p95_s", 0.95), ("max_s", 1.0)):
        value = quantile(known, share)
        part[name] = None if value is None else round(value, 6)
    within = [one for one in known if budget_s is None or one <= budget_s]
    has_share = taken_s and budget_s is not None
    share_within = round(len(within) / len(taken_s), 6) if has_share else None
    return {**part, "budget_s": budget_s, "within": share_within}


def _is_met(row: dict[str, Any]) -> bool:
    return all(row[part]["within"] in (None, 1.0) for part in ("detection", "recovery"))
