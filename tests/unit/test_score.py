"""The score protocol, line by line."""

import json
from pathlib import Path
from typing import Any

import pytest

from correlator.score import Label, covered, histories, quantile, read_labels, score
from schemas.base import from_microseconds
from schemas.outputs import Cause, Incident

TS = 1_000_000.0


def incident(
    opened: float,
    *roots: str,
    confidence: float = 0.9,
    updated: float | None = None,
    name: str = "",
) -> Incident:
    """Return an incident that opened and was updated so many seconds after the label began."""
    opened_at = from_microseconds(round((TS + opened) * 1e6))
    moment = opened if updated is None else updated
    return Incident(
        incident_id=name or f"{opened}/{roots[0]}",
        domain="pod-1",
        update=0,
        state="open",
        opened_at=opened_at,
        updated_at=from_microseconds(round((TS + moment) * 1e6)),
        onset_at=opened_at,
        confidence=confidence,
        margin=1.0,
        causes=[Cause(entity=root, signature="s", score=0.0) for root in roots],
        evidence=[],
        rules="r",
        rule="r",
    )


def label(*roots: str, start: float = 0.0, length: float = 60.0, case: str = "") -> Label:
    return Label(TS + start, TS + start + length, roots or ("vm:1",), "fault", case)


def scored(
    labels: list[Label],
    *incidents: Incident | tuple[str, Incident],
    spans: dict[str, tuple[float, float]] | None = None,
) -> dict[str, Any]:
    told = [one if isinstance(one, tuple) else ("", one) for one in incidents]
    span = {"": (TS - 3600.0, TS + 3600.0)} if spans is None else spans
    return score(labels, histories(told), span)


@pytest.mark.parametrize(
    ("opened", "hits"),
    [
        pytest.param(-0.1, 0, id="before the label"),
        pytest.param(0.0, 1, id="with it"),
        pytest.param(180.0, 1, id="120 s after its end"),
        pytest.param(180.1, 0, id="later than that"),
    ],
)
def test_an_incident_matches_when_it_opens_in_the_window(opened: float, hits: int) -> None:
    figures = scored([label()], incident(opened, "vm:1"))
    assert figures["hit_at_1"] == hits
    assert figures["answered"] == hits
    assert figures["false_incidents"] == 1 - hits


def test_the_answer_is_the_most_confident_one_when_the_window_closes() -> None:
    figures = scored(
        [label()],
        incident(1, "vm:2", confidence=0.8, name="a"),
        incident(2, "vm:1", confidence=0.5, name="b"),
        incident(2, "vm:1", confidence=0.9, updated=100, name="b"),
        incident(1, "vm:2", confidence=0.99, updated=181, name="a"),
    )
    assert figures["hit_at_1"] == 1.0


def test_of_equally_confident_ones_the_earliest_is_the_answer() -> None:
    figures = scored([label()], incident(5, "vm:2"), incident(4, "vm:1"), incident(6, "vm:3"))
    assert (figures["hit_at_1"], figures["delay_s"]["p50"]) == (1.0, 4.0)


def test_ranked_causes_decide_the_hits() -> None:
    third = scored([label()], incident(1, "vm:2", "vm:3", "vm:1", "vm:4"))
    fourth = scored([label()], incident(1, "vm:2", "vm:3", "vm:4", "vm:1"))
    assert (third["hit_at_1"], third["hit_at_3"], third["kind_at_1"]) == (0.0, 1.0, 1.0)
    assert fourth["hit_at_3"] == 0.0


@pytest.mark.parametrize(
    ("root", "named", "same"),
    [("nic:1", "link:9", 1.0), ("link:1", "nic:9", 1.0), ("vm:1", "nic:1", 0.0)],
)
def test_nic_and_link_are_one_kind(root: str, named: str, same: float) -> None:
    assert scored([label(root)], incident(1, named))["kind_at_1"] == same


def test_equivalent_roots_are_hits() -> None:
    assert scored([label("vm:1", "host:1")], incident(1, "host:1"))["hit_at_1"] == 1.0


def test_a_label_without_incident_is_a_miss_and_no_delay() -> None:
    figures = scored([label(), label(start=1000)], incident(1, "vm:1"))
    assert (figures["labels"], figures["answered"], figures["hit_at_1"]) == (2, 1, 0.5)
    assert figures["incidents_per_answered_label"] == 1.0


def test_further_incidents_with_another_root_are_extra() -> None:
    told = [incident(1, "vm:1"), incident(2, "vm:2", confidence=0.5)]
    again = incident(3, "vm:1", confidence=0.4)
    figures = scored([label()], *told, again)
    assert figures["extra_incidents_per_label"] == 1.0
    assert figures["incidents_per_answered_label"] == 3.0


def test_incidents_outside_all_windows_are_false_per_fault_free_hour() -> None:
    figures = scored([label()], incident(1, "vm:1"), incident(-100, "vm:1"), incident(999, "vm:1"))
    assert figures["false_incidents"] == 2
    assert figures["fault_free_hours"] == pytest.approx(2 - 180 / 3600, abs=1e-3)
    assert figures["false_incidents_per_hour"] == pytest.approx(2 / 1.95, abs=1e-3)


def test_without_fault_free_time_there_is_no_rate() -> None:
    figures = scored([label()], incident(1, "vm:1"), spans={"": (TS, TS + 60)})
    assert figures["false_incidents_per_hour"] is None


def test_cases_are_independent() -> None:
    labels = [label(case="a"), label("vm:2", case="b")]
    told = [("a", incident(1, "vm:1")), ("b", incident(1, "vm:1")), ("c", incident(1, "vm:1"))]
    figures = scored(labels, *told, spans={})
    assert figures["hit_at_1"] == 0.5
    assert figures["false_incidents"] == 1


def test_figures_are_split_by_fault_and_by_kind_of_root() -> None:
    figures = scored([label("vm:1"), label("nic:1", start=1000)], incident(1, "vm:1"))
    assert {kind: row["hit_at_1"] for kind, row in figures["by_root_kind"].items()} == {
        "nic": 0.0,
        "vm": 1.0,
    }
    assert figures["by_fault"]["fault"]["labels"] == 2


def test_nothing_at_all_gives_figures_too() -> None:
    figures = scored([], spans={})
    assert (figures["labels"], figures["delay_s"]) == (0, {"p50": None, "p95": None})


def test_labels_are_read_in_time_order_with_their_equivalents_and_cases(tmp_path: Path) -> None:
    base = {"end_ts": 20, "root_kind": "nic", "root_id": "a", "fault_type": "cut"}
    rows = [
        {**base, "ts": 10, "accept": [["link", "b"], ["host", "host:h"]]},
        {**base, "ts": 5, "case": 7},
        {**base, "ts": 6, "attrs": {"case": None}, "root_kind": "BGP session"},
    ]
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    labels = read_labels(path)
    assert [(one.ts, one.case, one.roots) for one in labels] == [
        (6, "", ("BGP_session:a",)),
        (10, "", ("nic:a", "link:b", "host:h")),
        (5, "7", ("nic:a",)),
    ]


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 5), (0.95, 10), (0.9, 9), (1.0, 10)])
def test_quantiles_are_of_the_nearest_rank(share: float, value: float) -> None:
    assert quantile([float(n) for n in range(10, 0, -1)], share) == value
    assert covered([]) == 0.0
