"""What `firstfault score` prints."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import EXAMPLES, Run

ASKED_FOR = {
    "labels", "hit_at_1", "hit_at_3", "kind_at_1", "delay_s", "false_incidents_per_hour",
    "extra_incidents_per_label", "by_fault", "by_root_kind",
}  # fmt: skip


@pytest.mark.parametrize("name", ["rack-power", "lag-flap"])
def test_the_examples_are_answered_rightly(run: Run, name: str) -> None:
    figures = json.loads(run("score {} --rules nfvi --output json", EXAMPLES / name).stdout)
    assert set(figures) >= ASKED_FOR
    assert set(figures["delay_s"]) == {"p50", "p95"}
    assert figures["labels"] == figures["hit_at_1"] == 1


def test_a_reader_gets_tables(run: Run) -> None:
    told = run("score {} --rules nfvi", EXAMPLES / "rack-power").stdout
    for part in ("hit at 1", "delay p50, p95 (s)", "by fault", "rack_power", "by root kind"):
        assert part in told, part


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        pytest.param(None, "no labels.jsonl there", id="none"),
        pytest.param("{", "labels.jsonl:1: line: Invalid JSON", id="no JSON"),
        pytest.param('{"ts": 1}', "labels.jsonl:1: end_ts: Field required", id="a part of one"),
        pytest.param("[]", "labels.jsonl:1: line: Input should be an object", id="no mapping"),
        pytest.param(
            '{"ts":5,"end_ts":1,"root_kind":"a","root_id":"b"}',
            "end_ts is before ts",
            id="reversed",
        ),
    ],
)
def test_a_recording_without_labels_cannot_be_scored(
    run: Run, tmp_path: Path, labels: str | None, told: str
) -> None:
    shutil.copy(EXAMPLES / "lag-flap" / "events.jsonl", tmp_path)
    if labels is not None:
        (tmp_path / "labels.jsonl").write_text(labels, encoding="utf-8")
    assert told in run("score {}", tmp_path, code=2).stderr


def test_the_real_recording_is_scored(run: Run, shared_data: Path) -> None:
    command = "score {} --rules ip-core --output json"
    figures = json.loads(run(command, shared_data / "kddi-nfv-learn").stdout)
    assert figures["labels"] == 925
    assert figures["hit_at_1"] > 0.4
