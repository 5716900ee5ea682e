"""What lint finds in a pack that loads."""

from pathlib import Path

import pytest

from correlator.rules.lint import lint
from tests.rules.conftest import PACK, RULES, TESTS, WritePack

SHIPPED = Path(__file__).parents[2] / "rules"
FENCE = RULES.replace("cause: host-dead\n", 'cause: host-dead\nconfidence: ">= 0.99"\n')
SECOND = """\
---
kind: signature
name: host-gone
root: host
prior: 1e-3
symptoms:
  - {see: h.lost, at: self, p: 0.8, within: 5s}
"""


@pytest.mark.parametrize("pack", ["generic", "ip-core", "nfvi"])
def test_shipped_packs_have_no_error(pack: str) -> None:
    assert [str(fault) for fault in lint(SHIPPED / pack) if fault.severity == "error"] == []


def test_a_sound_pack_has_no_fault(write_pack: WritePack) -> None:
    assert lint(write_pack()) == []


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        pytest.param(RULES.replace("at: vm,", "at: ^vm,"), "impossible-path", id="path upwards"),
        pytest.param(RULES.replace("at: vm,", "at: vm.vm,"), "impossible-path", id="no such edge"),
        pytest.param(
            RULES.replace("within: 5s", "within: 1s", 1), "short-window", id="read each 2 s"
        ),
        pytest.param(RULES.split("---")[0], "no-policy", id="nothing to do"),
        pytest.param(RULES.replace("prior: 1e-3", "prior: 0.5"), "odd-number", id="a high prior"),
        pytest.param(
            RULES.replace("p: 0.9, within", "p: 0.0001, within", 1), "odd-number", id="a low p"
        ),
        pytest.param(RULES + SECOND, "indistinguishable", id="two that differ in one cell"),
        pytest.param(RULES + SECOND, "covered", id="one that shows nothing of its own"),
        pytest.param(RULES + SECOND, "no-test", id="one without a test"),
        pytest.param(
            FENCE.replace("notify: {}", "fence: {}"), "no-guard", id="a fence without a guard"
        ),
        pytest.param(
            RULES.replace("notify: {}", "fence: {}"), "low-confidence", id="a fence on a guess"
        ),
        pytest.param(
            FENCE.replace("notify: {}", "evacuate_vm: {target: $root.vm}"),
            "no-proof",
            id="an evacuation without a fence",
        ),
        pytest.param(
            FENCE.replace("notify: {}", "rebuild_vm: {target: $root.vm}"),
            "no-proof",
            id="a second copy without a fence",
        ),
        pytest.param(
            RULES.replace("notify: {}", "unfence: {}"), "no-proof", id="a return without clean-up"
        ),
        pytest.param(
            RULES.replace("notify: {}", "notify: {when: {see: h.lost, at: ^vm}}"),
            "impossible-path",
            id="a fact where nothing is",
        ),
        pytest.param(
            RULES + "---\nkind: symptom\nname: odd\nmatch: {signal: a.lost}\n",
            "unused-symptom",
            id="a symptom for nothing",
        ),
    ],
)
def test_a_doubtful_rule_is_told(write_pack: WritePack, rules: str, code: str) -> None:
    assert code in {fault.code for fault in lint(write_pack(rules=rules))}


@pytest.mark.parametrize(
    ("pack", "tests", "code"),
    [
        pytest.param(PACK + "vars: {x: '1'}\n", TESTS, "unused-variable", id="a variable"),
        pytest.param(PACK, TESTS.replace("[host-dead]", "[x]"), "unknown-rule-tested", id="a test"),
        pytest.param(PACK, TESTS.replace("cleared: true", ""), "thin-test", id="nothing clears"),
    ],
)
def test_the_rest_of_a_pack_is_looked_at_too(
    write_pack: WritePack, pack: str, tests: str, code: str
) -> None:
    assert code in {fault.code for fault in lint(write_pack(pack=pack, tests=tests))}


def test_what_cannot_be_loaded_is_told_as_loading_tells_it(write_pack: WritePack) -> None:
    faults = lint(write_pack(rules=RULES.replace("prior: 1e-3", "prior: 2")))
    assert [(fault.code, fault.line) for fault in faults if fault.line == 4] == [("bad-value", 4)]


def test_a_symptom_that_a_step_asks_for_is_used(write_pack: WritePack) -> None:
    odd = "---\nkind: symptom\nname: odd\nmatch: {signal: a.lost}\n"
    asked = RULES.replace("notify: {}", "notify: {unless: {see: odd}}")
    assert "unused-symptom" not in {fault.code for fault in lint(write_pack(rules=asked + odd))}
