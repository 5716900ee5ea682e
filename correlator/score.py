"""How good were the answers: incidents of a replay against labels, read after it has ended.

An incident matches a label when it opens in [ts, end_ts + 120 s] of the same case. A label's
answer is the matching incident with the highest confidence when the window closes (ties: the
earliest). Incidents that open outside every window are false.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from correlator.importers import entity_id
from correlator.recording import RecordingError
from schemas.base import Wire, first_fault, kind_of
from schemas.outputs import Incident

AFTER_S = 120.0
"""An incident may open this long after the end of a label."""
_SAME_KIND = {"link": "nic"}
"""kind@1 counts nic and link as one: they are two names of one cable's end."""


@dataclass
class Label:
    """One labelled fault; times are seconds since 1970."""

    ts: float
    end_ts: float
    roots: tuple[str, ...]
    fault_type: str
    case: str = ""

    @property
    def close(self) -> float:
        """End of the window in which an answer counts."""
        return self.end_ts + AFTER_S


@dataclass
class History:
    """All that was said of one incident; times are seconds since 1970."""

    opened: float
    updates: list[tuple[float, Incident]] = field(default_factory=list)

    def at(self, moment: float) -> Incident | None:
        """Return the incident as it stood at a moment."""
        known = [incident for when, incident in self.updates if when <= moment]
        return known[-1] if known else None


class LabelDocument(Wire):
    """A line of labels.jsonl."""

    ts: float = Field(ge=0, le=1e11, description="beginning, seconds since 1970")
    end_ts: float = Field(ge=0, le=1e11, description="end, seconds since 1970")
    root_kind: str = Field(min_length=1, description="e.g. host")
    root_id: str = Field(min_length=1, description="e.g. compute-3")
    fault_type: str = Field("unknown", description="what was done, e.g. power")
    accept: list[tuple[str, str]] = Field(default_factory=list, description="(kind, id) as good")
    case: str | int | None = Field(None, description="the independent case it belongs to")
    attrs: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _in_order(self) -> "LabelDocument":
        if self.end_ts < self.ts:
            msg = "end_ts is before ts"
            raise ValueError(msg)
        return self


def read_labels(path: Path) -> list[Label]:
    """Return the labels of a recording folder, in time order.

    Raises:
        RecordingError: for the first line that is no label, with its number.
    """
    labels = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if line.strip():
            try:
                given = LabelDocument.model_validate_json(line)
            except ValidationError as error:
                msg = f"{path}:{number}: {first_fault(error, 'line')}"
                raise RecordingError(msg) from error
            roots = [entity_id(given.root_kind, given.root_id)]
            roots += [entity_id(kind, name) for kind, name in given.accept]
            case = given.attrs.get("case") if given.case is None else given.case
            name = "" if case is None else str(case)
            labels.append(Label(given.ts, given.end_ts, tuple(roots), given.fault_type, name))
    return sorted(labels, key=lambda label: (label.case, label.ts))


def seconds(text: str) -> float:
    """Return seconds since 1970 of an RFC 3339 time."""
    return datetime.fromisoformat(text).timestamp()


def histories(outputs: Iterable[tuple[str, Incident]]) -> dict[tuple[str, str], History]:
    """Return what was said of each (case, incident), oldest first."""
    found: dict[tuple[str, str], History] = {}
    for case, incident in outputs:
        history = found.setdefault(
            (case, incident.incident_id), History(seconds(incident.opened_at))
        )
        history.updates.append((seconds(incident.updated_at), incident))
    return found


@dataclass
class _Tally:
    labels: int = 0
    answered: int = 0
    hit_1: int = 0
    hit_3: int = 0
    kind_1: int = 0

    def row(self) -> dict[str, float | int]:
        count = max(1, self.labels)
        return {
            "labels": self.labels,
            "answered": self.answered,
            "hit_at_1": round(self.hit_1 / count, 4),
            "hit_at_3": round(self.hit_3 / count, 4),
            "kind_at_1": round(self.kind_1 / count, 4),
        }


def score(
    labels: list[Label],
    found: dict[tuple[str, str], History],
    spans: dict[str, tuple[float, float]],
) -> dict[str, Any]:
    """Return the figures of a replay; `spans` holds first and last event time of each case."""
    by_case: dict[str, list[History]] = {}
    for (case, _), history in sorted(found.items(), key=lambda item: (item[1].opened, item[0])):
        by_case.setdefault(case, []).append(history)
    total, by_fault, by_kind = _Tally(), dict[str, _Tally](), dict[str, _Tally]()
    delays: list[float] = []
    matched_count = extra = 0
    for label in labels:
        matching = [h for h in by_case.get(label.case, []) if label.ts <= h.opened <= label.close]
        answer = _answer(label, matching)
        tallies = (
            total,
            by_fault.setdefault(label.fault_type, _Tally()),
            by_kind.setdefault(kind_of(label.roots[0]), _Tally()),
        )
        stands = answer.at(label.close) if answer else None
        for tally in tallies:
            _count(tally, label, stands)
        if answer is not None and stands is not None:
            matched_count += len(matching)
            delays.append(answer.opened - label.ts)
            extra += sum(_root(h, label) != stands.causes[0].entity for h in matching)
    false, hours = _outside(labels, by_case, spans)
    figures = total.row()
    figures.pop("answered")
    return {
        **figures,
        "answered": total.answered,
        "delay_s": {"p50": quantile(delays, 0.5), "p95": quantile(delays, 0.95)},
        "false_incidents": false,
        "fault_free_hours": round(hours, 3),
        "false_incidents_per_hour": round(false / hours, 4) if hours > 0 else None,
        "extra_incidents_per_label": round(extra / max(1, len(labels)), 4),
        "incidents_per_answered_label": round(matched_count / max(1, total.answered), 4),
        "by_fault": {name: tally.row() for name, tally in sorted(by_fault.items())},
        "by_root_kind": {name: tally.row() for name, tally in sorted(by_kind.items())},
    }


def _answer(label: Label, matching: list[History]) -> History | None:
    """Return the most confident of the matching incidents at the close, the earliest of equals."""
    best: History | None = None
    best_confidence = -1.0
    for history in matching:
        stands = history.at(label.close)
        if stands is not None and stands.confidence > best_confidence:
            best, best_confidence = history, stands.confidence
    return best


def _root(history: History, label: Label) -> str:
    stands = history.at(label.close)
    return stands.causes[0].entity if stands else ""


def _count(tally: _Tally, label: Label, stands: Incident | None) -> None:
    tally.labels += 1
    if stands is None:
        return
    named = [cause.entity for cause in stands.causes[:3]]
    kinds = {_SAME_KIND.get(kind_of(root), kind_of(root)) for root in label.roots}
    kind = kind_of(named[0])
    tally.answered += 1
    tally.hit_1 += named[0] in label.roots
    tally.hit_3 += any(name in label.roots for name in named)
    tally.kind_1 += _SAME_KIND.get(kind, kind) in kinds


def _outside(
    labels: list[Label], by_case: dict[str, list[History]], spans: dict[str, tuple[float, float]]
) -> tuple[int, float]:
    """Return incidents that opened outside all windows of their case, and the hours outside."""
    false, seconds_outside = 0, 0.0
    for case in sorted({*by_case, *spans, *(label.case for label in labels)}):
        windows = [(x.ts, x.close) for x in labels if x.case == case]
        opened = [h.opened for h in by_case.get(case, [])]
        false += sum(not any(start <= at <= end for start, end in windows) for at in opened)
        edges = [*spans.get(case, ()), *(t for window in windows for t in window)]
        if edges:
            seconds_outside += max(edges) - min(edges) - covered(windows)
    return false, seconds_outside / 3600.0


def covered(windows: list[tuple[float, float]]) -> float:
    """Return the seconds that lie in at least one window.

    >>> covered([(0, 10), (5, 20), (30, 31)])
    21.0
    """
    total, reached = 0.0, float("-inf")
    for start, end in sorted(windows):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def quantile(values: list[float], share: float) -> float | None:
    """Return the nearest-rank quantile, None of nothing.

    >>> quantile([1, 2, 3, 4], 0.5)
    2
    """
    if not values:
        return None
    rank = max(0, -(-len(values) * share // 1) - 1)
    return sorted(values)[int(rank)]
