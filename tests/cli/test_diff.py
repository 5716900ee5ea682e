"""What `firstfault diff` finds."""

import json
from pathlib import Path

from tests.cli.conftest import EXAMPLES, Run


def test_a_record_is_the_same_as_itself(run: Run, lag_flap: Path) -> None:
    assert run("diff {} {}", lag_flap, lag_flap / "outputs.jsonl").stdout == "the same\n"
    told = json.loads(run("diff {} {} --output json", lag_flap, lag_flap).stdout)
    assert told == {"same": True, "count": 0, "differences": []}


def test_other_rules_say_other_things(run: Run, lag_flap: Path, tmp_path: Path) -> None:
    run("replay {} --record {} --quiet", EXAMPLES / "lag-flap", tmp_path)
    told = run("diff {} {}", lag_flap, tmp_path, code=1).stdout
    assert "\n+ " in told
    assert told.startswith("- ")
    assert "differences" in told.splitlines()[-1]
    found = json.loads(run("diff {} {} --output json", lag_flap, tmp_path, code=1).stdout)
    assert not found["same"]
    assert found["count"] == len(found["differences"]) > 0


def test_a_changed_field_is_named(run: Run, lag_flap: Path, tmp_path: Path) -> None:
    lines = (lag_flap / "outputs.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    first["output"]["confidence"] = 0.5
    for number, line in enumerate(lines):
        changed = json.loads(line)
        if changed["output"]["type"] == "action":  # who spoke and until when does not count
            changed["output"].update(epoch=7, action_id="other", expires_at="2030-01-01T00:00:00Z")
            lines[number] = json.dumps(changed)
    file = tmp_path / "other.jsonl"
    file.write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n", encoding="utf-8")
    told = run("diff {} {}", lag_flap, file, code=1).stdout.splitlines()
    assert told[-1] == "1 differences"
    assert any(line.strip().startswith("confidence: ") and "→ 0.5" in line for line in told)


def test_what_is_no_record_cannot_be_compared(run: Run, lag_flap: Path) -> None:
    assert "no outputs.jsonl there" in run("diff {} nowhere", lag_flap, code=2).stderr
