"""What `firstfault rules` tells."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import EXAMPLES, Run


def test_fit_shows_the_difference_and_applies_nothing(run: Run, tmp_path: Path) -> None:
    patch = tmp_path / "generic.patch"
    told = run("rules fit generic {} --patch {}", EXAMPLES / "rack-power", patch).stdout
    assert "entity-fault" in told
    assert "1 labels" in told
    assert patch.read_text(encoding="utf-8").startswith("--- a/rules.yaml\n+++ b/rules.yaml\n")


def test_fit_answers_a_program(run: Run) -> None:
    command = "rules fit generic {} --discover --output json"
    told = json.loads(run(command, EXAMPLES / "rack-power").stdout)
    assert {"signature", "symptom", "path", "before", "after", "counts"} == set(told["cells"][0])


@pytest.mark.parametrize(
    ("command", "told"),
    [
        pytest.param("rules fit generic {}", "no labels.jsonl there", id="no labels"),
        pytest.param("rules fit generic nowhere", "nowhere: no such file", id="no recording"),
        pytest.param("rules fit nowhere {}", "nowhere: no folder with a pack.yaml", id="no pack"),
    ],
)
def test_what_cannot_be_fitted_is_told(run: Run, tmp_path: Path, command: str, told: str) -> None:
    shutil.copy(EXAMPLES / "lag-flap" / "events.jsonl", tmp_path)
    assert told in run(command, tmp_path, code=2).stderr


PACK = """\
name: tiny
version: 1.0.0
signals: {vm.lost: {period: 1s}}
topology_schema: schema.yaml
"""
SCHEMA = """\
kinds: {host: {}, vm: {}}
edges: [{from: vm, relation: hosted_by, to: host}]
"""
UNTESTED = """\
kind: signature
name: other-fault
root: vm
prior: 0.01
symptoms:
  - {see: vm.lost, at: self, p: 0.5, within: 3s}
"""
RULES = """\
kind: signature
name: vm-fault
root: vm
prior: 0.01
symptoms:
  - {see: vm.lost, at: self, p: 0.9, within: 3s, spurious: 1e-5}
---
kind: policy
name: tell
cause: vm-fault
do: [{notify: {}}]
---
kind: test
rules: [vm-fault]
topology: {h1: {v1: []}}
cases:
  - name: a lost VM
    events: |
      0.2s  vm.lost  vm:v1
    expect:
      - {root: "vm:v1"}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    for name, text in (("pack", PACK), ("schema", SCHEMA), ("rules", RULES)):
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_pack_whose_tests_hold_passes(run: Run, tiny: Path) -> None:
    assert "1 cases, 0 failed" in run("rules test {}", tiny).stdout
    told = json.loads(run("rules test {} --output json", tiny).stdout)
    assert [(one["name"], one["failures"]) for one in told] == [("a lost VM", [])]


def test_a_case_that_fails_says_what_was_expected(run: Run, tiny: Path) -> None:
    file = tiny / "rules.yaml"
    file.write_text(RULES.replace('root: "vm:v1"', 'root: "host:h1"'), encoding="utf-8")
    told = run("rules test {}", tiny, code=1).stdout
    assert "1 cases, 1 failed" in told
    assert "rules.yaml:" in told
    assert "host:h1" in told


def test_a_sound_pack_has_no_error(run: Run, tiny: Path) -> None:
    assert "0 errors" in run("rules check {}", tiny).stdout


def test_a_pack_that_can_be_used_and_is_wrong_is_no_bad_input(run: Run, tiny: Path) -> None:
    (tiny / "more.yaml").write_text(UNTESTED, encoding="utf-8")
    assert "error [no-test]" in run("rules check {}", tiny, code=1).stdout
    run("replay {} --rules {}", EXAMPLES / "lag-flap", tiny)


def test_every_fault_of_a_pack_is_told_where_it_stands(run: Run, tiny: Path) -> None:
    bad = RULES.replace("p: 0.9", "p: 9").replace("within: 3s", "within: 3")
    (tiny / "rules.yaml").write_text(bad, encoding="utf-8")
    told = run("rules check {}", tiny, code=2).stdout
    assert told.count("rules.yaml:6:") == 2
    faults = json.loads(run("rules check {} --output json", tiny, code=2).stdout)
    assert {fault["code"] for fault in faults} >= {"bad-value"}
    assert "error [bad-value]" in run("rules test {}", tiny, code=2).stderr
