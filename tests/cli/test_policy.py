"""``firstfault policy show``: what holds for an entity, and which document says so."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

PACK = "name: site\nversion: 1.0.0\n"
RULES = """\
kind: signature
name: vm-fault
root: vm
prior: 1e-3
symptoms: [{see: vm.down, at: self, p: 0.9, within: 2s}]
---
kind: policy
name: tell
cause: vm-fault
do: [{notify: {}}, {restart_vm: {}}]
---
kind: settings
name: gold
entities: [vm:db-*]
sla: SAL1
---
kind: settings
name: opted-out
entities: vm:db-2
recover: false
"""


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    (tmp_path / "pack.yaml").write_text(PACK, encoding="utf-8")
    (tmp_path / "rules.yaml").write_text(RULES, encoding="utf-8")
    return tmp_path


def test_settings_and_plans_are_shown_with_where_they_stand(run: Run, pack: Path) -> None:
    told = json.loads(run("policy show vm:db-2 --rules {} --output json", pack).stdout)
    assert (told["sla"], told["priority"], told["recover"]) == ("SAL1", 1, False)
    assert [place.split(":")[1] for place in told["said_by"]] == ["12", "17"]
    (plan,) = told["plans"]
    assert (plan["policy"], plan["steps"]) == ("tell", ["notify", "restart_vm"])


def test_what_nobody_speaks_of_has_the_defaults(run: Run, pack: Path) -> None:
    text = run("policy show vm:web-1 --rules {}", pack).stdout
    assert "priority 5" in text
    assert "defaults" in text


def test_what_is_no_entity_is_refused(run: Run, pack: Path) -> None:
    assert "no entity" in run("policy show nonsense --rules {}", pack, code=2).stderr


def test_the_limits_of_a_pack_are_shown_with_their_units(run: Run, pack: Path) -> None:
    (pack / "pack.yaml").write_text(f"{PACK}limits: {{soak: 5m}}\n", encoding="utf-8")
    told = json.loads(run("policy show vm:db-2 --rules {} --output json", pack).stdout)
    assert (told["limits"]["soak"], told["limits"]["hold_max"]) == (300.0, 120.0)
    text = run("policy show vm:db-2 --rules {}", pack).stdout
    assert "300 s" in text
    assert "2 in 1800 s" in text
