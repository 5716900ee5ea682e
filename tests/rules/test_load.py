"""A pack loads whole, or not at all with every fault in it."""

import pytest

from correlator.rules import RuleFaults, load_pack
from schemas.rules import Limits
from tests.rules.conftest import PACK, RULES, TESTS, WritePack


def test_a_sound_pack_loads(write_pack: WritePack) -> None:
    rules = load_pack(write_pack())
    assert [signature.name for signature in rules.signatures] == ["host-dead"]
    assert rules.own == {"signature:host-dead", "policy:tell"}


@pytest.mark.parametrize(
    ("rules", "place", "code"),
    [
        pytest.param("a: [", "rules.yaml:1:5", "yaml", id="no YAML"),
        pytest.param(
            RULES.replace("within: 5s", "within: 5", 1),
            "rules.yaml:6:45",
            "bad-value",
            id="a number without its unit",
        ),
        pytest.param(
            RULES.replace("root: host", "rout: host"), "rules.yaml:3:1", "unknown-key", id="a typo"
        ),
        pytest.param(
            RULES.replace("root: host", "root: hots"),
            "rules.yaml:3:7",
            "unknown-kind",
            id="a kind that is none",
        ),
        pytest.param(
            RULES.replace("prior: 1e-3", "prior: 1.5"),
            "rules.yaml:4:8",
            "bad-value",
            id="a prior over one",
        ),
        pytest.param(
            RULES.replace("at: vm,", "at: vm..app,"),
            "rules.yaml:7:23",
            "bad-value",
            id="a path that is none",
        ),
        pytest.param(
            RULES.replace("see: v.lost", "see: v.gone"),
            "rules.yaml:7:5",
            "unknown-symptom",
            id="a symptom that nobody emits",
        ),
        pytest.param(
            RULES.replace("cause: host-dead", "cause: host-gone"),
            "rules.yaml:11:8",
            "unknown-signature",
            id="a policy for nothing",
        ),
        pytest.param(
            RULES + "---\n" + RULES, "rules.yaml:15:7", "duplicate-name", id="a name given twice"
        ),
        pytest.param(
            RULES.replace("root: host", "root: ${kind}"),
            "rules.yaml:3:7",
            "unknown-variable",
            id="a variable without a value",
        ),
        pytest.param("kind: sigature\n", "rules.yaml:1:1", "unknown-document", id="no document"),
    ],
)
def test_every_fault_has_its_place_and_code(
    write_pack: WritePack, rules: str, place: str, code: str
) -> None:
    with pytest.raises(RuleFaults) as refused:
        load_pack(write_pack(rules=rules))
    found = [(f"{f.file}:{f.line}:{f.column}", f.code) for f in refused.value.faults]
    assert (f"small/{place}", code) in found


@pytest.mark.parametrize(
    ("step", "code", "text"),
    [
        pytest.param("{needs: fence.confirmed}", "unknown-step", "no fence", id="no such step"),
        pytest.param("{needs: fence.done}", "bad-value", "pattern", id="no such outcome"),
        pytest.param("{when: {see: h.gone}}", "unknown-symptom", "h.gone", id="no such fact"),
        pytest.param("{unless: [{see: h.gone}]}", "unknown-symptom", "h.gone", id="nor this one"),
        pytest.param("{when: {see: h.lost, at: v..x}}", "bad-value", "no step", id="no path"),
        pytest.param("{when: {see: h.lost, is: maybe}}", "bad-value", "raised", id="no value"),
        pytest.param("{when: []}", "bad-value", "at least 1", id="no fact at all"),
        pytest.param("{tries: 0}", "bad-value", "greater", id="no try"),
        pytest.param("{every: 5}", "bad-value", "unit", id="a number without its unit"),
        pytest.param("{methods: [bmc_off]}", "bad-value", "only a fence", id="no fence"),
    ],
)
def test_what_is_wrong_with_a_step_has_its_place(
    write_pack: WritePack, step: str, code: str, text: str
) -> None:
    with pytest.raises(RuleFaults) as refused:
        load_pack(write_pack(rules=RULES.replace("notify: {}", f"notify: {step}")))
    (fault,) = refused.value.faults
    assert (fault.file, fault.line, fault.code) == ("small/rules.yaml", 12, code)
    assert fault.column > len("do: [{notify: ")
    assert text in fault.text


def test_limits_have_defaults_a_pack_may_change_and_one_above_it_again(
    write_pack: WritePack,
) -> None:
    plain = load_pack(write_pack())
    assert (plain.limits, plain.limits.soak) == (Limits(), 120.0)
    base = write_pack(
        pack=f"{PACK}limits: {{soak: 10m, fences_per_host: {{actions: 1, per: 1h}}}}\n"
    )
    above = base.parent / "above"
    above.mkdir()
    text = "name: above\nversion: 1.0.0\nextends: [../small]\nlimits: {soak: 5m}\n"
    (above / "pack.yaml").write_text(text, encoding="utf-8")
    changed = load_pack(base)
    assert (changed.limits.soak, changed.limits.fences_per_host.per) == (600.0, 3600.0)
    assert changed.hash != plain.hash
    limits = load_pack(above).limits
    assert (limits.soak, limits.fences_per_host.actions, limits.hold_max) == (300.0, 1, 120.0)


def test_a_limit_below_what_is_safe_is_refused(write_pack: WritePack) -> None:
    with pytest.raises(RuleFaults) as refused:
        load_pack(write_pack(pack=f"{PACK}limits: {{sources_min: 1}}\n"))
    (fault,) = refused.value.faults
    assert (fault.file, fault.code) == ("small/pack.yaml", "bad-value")


def test_all_faults_are_told_at_once_and_none_follows_from_another(write_pack: WritePack) -> None:
    rules = RULES.replace("prior: 1e-3", "prior: 2").replace("notify", "notfiy")
    tests = TESTS.replace("root: host:h1", "rooot: host:h1")
    with pytest.raises(RuleFaults) as refused:
        load_pack(write_pack(rules=rules, tests=tests))
    assert [(fault.file, fault.line) for fault in refused.value.faults] == [
        ("small/rules.yaml", 4),
        ("small/rules.yaml", 12),
        ("small/tests.yaml", 9),
        ("small/tests.yaml", 17),
    ]


def test_tests_of_a_base_pack_are_its_own(write_pack: WritePack) -> None:
    base = write_pack()
    above = base.parent / "above"
    above.mkdir()
    text = "name: above\nversion: 1.0.0\nextends: [../small]\n"
    (above / "pack.yaml").write_text(text, encoding="utf-8")
    rules = load_pack(above)
    assert rules.tests == ()
    assert rules.own == frozenset()
    assert rules.signatures
