"""What `firstfault explain` and `why-not` tell."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_an_incident_is_explained_with_all_that_speaks_for_and_against_it(
    run: Run, rack_power: Path
) -> None:
    told = run("explain {} last", rack_power).stdout
    assert told.startswith("rack-power-loss of rack:r1, confidence")
    for part in (
        "nfvi/rack-power.yaml:",
        "causes weighed",
        "symptoms for it",
        "symptoms expected and not seen",
        "margin",
        "decided",
        "actions",
        "by way of",
    ):
        assert part in told, part


def test_a_program_gets_the_same_as_one_value(run: Run, rack_power: Path) -> None:
    told = json.loads(run("explain {} last --output json", rack_power).stdout)
    assert sorted(told) == ["actions", "decisions", "incident", "rules", "states"]
    assert told["incident"]["causes"][0]["entity"] == "rack:r1"
    assert told["states"][-1]["state"] == "cleared"
    assert {d["incident_id"] for d in told["decisions"]} == {told["incident"]["incident_id"]}


def test_without_a_name_the_incidents_are_listed(run: Run, lag_flap: Path) -> None:
    listed = run("explain {}", lag_flap).stdout.splitlines()
    assert len(listed) == 1
    beginning = listed[0].split()[0]
    assert "link:h002/ens1f0" in run(f"explain {{}} {beginning}", lag_flap).stdout
    told = json.loads(run("explain {} --output json", lag_flap).stdout)
    assert [one["state"] for one in told] == ["cleared"]


@pytest.mark.parametrize(
    ("entity", "reason", "words"),
    [
        pytest.param("host:h001", "explained", "rack-power-loss of rack:r1", id="a symptom"),
        pytest.param("rack:r1", "cause", "named as the cause", id="the cause"),
        pytest.param("host:h008", "never_alarmed", "never raised", id="healthy"),
    ],
)
def test_why_nothing_was_done_is_told_in_sentences(
    run: Run, rack_power: Path, entity: str, reason: str, words: str
) -> None:
    told = json.loads(run(f"why-not {{}} {entity} --output json", rack_power).stdout)
    assert any(one["reason"] == reason and words in one["text"] for one in told)
    assert words in run(f"why-not {{}} {entity}", rack_power).stdout


def test_why_not_tells_why_it_was_refused_to_act(run: Run, tmp_path: Path, lag_flap: Path) -> None:
    decision = {
        "type": "decision", "entity": "host:h001", "verdict": "refuse", "reason": "maintenance",
        "text": "host:h001 is under maintenance by op-7", "incident_id": None, "policy": None,
        "decided_at": "2026-11-23T10:00:00.000000Z",
    }  # fmt: skip
    line = {"case": "", "offset": 1, "index": 0, "log_at": decision["decided_at"]}
    for name in ("META.json", "alarms.json", "topology.json"):
        (tmp_path / name).write_bytes((lag_flap / name).read_bytes())
    text = json.dumps({**line, "output": decision}) + "\n"
    (tmp_path / "outputs.jsonl").write_text(text, encoding="utf-8")
    told = run("why-not {} host:h001", tmp_path).stdout
    assert "It was refused at 10:00:00.000: host:h001 is under maintenance by op-7." in told


@pytest.mark.parametrize(
    ("command", "told"),
    [
        pytest.param("explain {} zzz", "no incident zzz", id="no such incident"),
        pytest.param("explain nowhere last", "nowhere: no outputs.jsonl", id="no record"),
        pytest.param("why-not {} host:none", "neither in the topology nor", id="no such entity"),
        pytest.param("graph {} zzz --to x.dot", "no incident zzz", id="no such incident to draw"),
    ],
)
def test_what_is_not_there_is_told_in_a_sentence(
    run: Run, lag_flap: Path, command: str, told: str
) -> None:
    assert told in run(command, lag_flap, code=2).stderr


def test_a_record_that_is_not_whole_is_refused(run: Run, tmp_path: Path, lag_flap: Path) -> None:
    (tmp_path / "outputs.jsonl").write_bytes((lag_flap / "outputs.jsonl").read_bytes())
    assert "not a whole record" in run("explain {} last", tmp_path, code=2).stderr
    (tmp_path / "outputs.jsonl").write_text('{"case": 1}\n', encoding="utf-8")
    assert "outputs.jsonl:1: not an output" in run("explain {}", tmp_path, code=2).stderr


def test_names_from_the_log_cannot_act_on_the_terminal(run: Run, tmp_path: Path) -> None:
    event = {"ts": 1.0, "entity": {"kind": "vm", "id": "$x_{[red]\x1b[2J日"}, "type": "lost[/]"}
    (tmp_path / "events.jsonl").write_text(json.dumps(event) + "\n", encoding="utf-8")
    told = run("replay {} --record {}", tmp_path, tmp_path / "out").stdout
    told += run("explain {} last", tmp_path / "out").stdout
    assert "\x1b" not in told
    assert "vm:$x_{[red]\N{REPLACEMENT CHARACTER}[2J" in told
    for suffix in ("svg", "png", "dot", "mmd"):
        run("graph {} --to {}", tmp_path / "out", tmp_path / f"a.{suffix}")
