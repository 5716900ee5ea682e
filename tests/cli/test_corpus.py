"""What `firstfault corpus` tells, and how it ends."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.conftest import ROOT

CORPUS = ROOT / "tests" / "corpus"
SCENARIO = """\
id: C15-a-bmc
row: C15
title: A BMC does not answer.
topology: {nodes: [{id: "bmc:h1"}, {id: "host:h1"}], edges: []}
inject: |
  1s..9s/2s! bmc.lost bmc:h1 source=redfish
expect:
  - {action: notify, target: "bmc:h1"}
forbid:
  - {action: fence}
"""


def _write(folder: Path, text: str = SCENARIO) -> Path:
    (folder / "C15-a-bmc.yaml").write_text(text, encoding="utf-8")
    return folder


def test_a_scenario_is_told_as_a_time_line(run: Run) -> None:
    told = run("corpus run C12a-one --folder {}", CORPUS).stdout
    lines = [line.strip() for line in told.splitlines()]
    assert lines[0] == "C12a-one-storage-path: ok"
    assert any(line.endswith("inject   path.down path:h1/p0 source=multipath") for line in lines)
    assert any("action   notify path:h1/p0" in line for line in lines)
    assert lines[-1] == "1 scenarios: 1 ok, 0 failed"


def test_a_seed_tells_what_noise_did(run: Run) -> None:
    told = run("corpus run X15 --seed 7 --folder {}", CORPUS).stdout
    assert "X15-doubled-and-reordered: ok, seed 7" in told
    assert "[again]" in told
    assert "s late]" in told


def test_a_program_gets_each_claim(run: Run, tmp_path: Path) -> None:
    told = json.loads(run("corpus run --output json --folder {}", _write(tmp_path)).stdout)
    assert [one["status"] for one in told] == ["ok"]
    assert {one["kind"]: one["holds"] for one in told[0]["claims"]} == {
        "expect": True,
        "forbid": True,
        "always": True,
    }
    assert told[0]["story"][0].endswith("bmc.lost bmc:h1 source=redfish")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param("{action: notify", "{action: page", "C15-a-bmc: failed", id="not done"),
        pytest.param("{action: fence}", "{action: notify}", "FAILED  forbid", id="forbidden"),
        pytest.param(
            '"bmc:h1"}\nforbid',
            '"bmc:h1", pending: no rule yet}\nforbid',
            "no longer pending",
            id="pending though it holds",
        ),
    ],
)
def test_what_fails_ends_with_1(
    run: Run, tmp_path: Path, before: str, after: str, told: str
) -> None:
    folder = _write(tmp_path, SCENARIO.replace(before, after))
    assert told in run("corpus run --folder {}", folder, code=1).stdout


def test_what_is_pending_is_told_and_fails_nothing(run: Run, tmp_path: Path) -> None:
    text = SCENARIO.replace('{action: notify, target: "bmc:h1"}', "{action: page, pending: soon}")
    told = run("corpus run --folder {}", _write(tmp_path, text)).stdout
    assert "pending: soon" in told
    assert "0 ok, 0 failed, 1 pending" in told


@pytest.mark.parametrize(
    ("command", "told"),
    [
        pytest.param("corpus run C99 --folder {}", "no such scenario (C15-a-bmc)", id="no such id"),
        pytest.param("corpus run --folder {}/nowhere", "no such folder", id="no such folder"),
        pytest.param("corpus run --rules nowhere", "no shipped pack", id="no such pack"),
    ],
)
def test_what_is_not_there_ends_with_2(run: Run, tmp_path: Path, command: str, told: str) -> None:
    assert told in run(command, _write(tmp_path), code=2).stderr


def test_a_bad_file_ends_with_2_and_every_fault_where_it_stands(run: Run, tmp_path: Path) -> None:
    text = SCENARIO.replace("title:", "titel:").replace("{action: fence}", "{action: fense}")
    told = run("corpus run --folder {}", _write(tmp_path, text), code=2).stderr
    assert "C15-a-bmc.yaml:3:1: error [unknown-key] titel: no such key" in told
    assert "C15-a-bmc.yaml:10:14: error [bad-value]" in told
