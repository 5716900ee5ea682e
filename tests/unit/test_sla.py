"""Outages of workloads: who was hit, when it was told, and what brought it back."""

from dataclasses import replace
from typing import Any

import pytest

from correlator.recorded import Record, Said
from correlator.rules import RuleSet
from correlator.sla import LEVELS, Outage, outages, report
from schemas.base import from_microseconds, kind_of
from schemas.outputs import Action, Cause, Decision, Evidence, Incident
from schemas.rules import Policy, ServiceLevels, Settings
from tests.worlds import POLICIES, RULES, START_US, cloud, topology

HOST, VM, OTHER, VNF = "host:r0h0", "vm:r0h0v0", "vm:r0h0v1", "vnf:n"
GOLD = Settings(kind="settings", name="gold", entities=[VM], sla="SAL1")
SILVER = Settings(kind="settings", name="silver", entities=[OTHER], sla="SAL2")
DOMAIN = "pod-1"


def rules(*settings: Settings, policies: tuple[Policy, ...] = POLICIES) -> RuleSet:
    return replace(RULES, settings=settings, policies=policies)


def moment(second: float) -> str:
    return from_microseconds(START_US + round(second * 1e6))


def said(second: float, output: Incident | Decision | Action) -> Said:
    return Said(offset=0, index=0, log_at=moment(second), output=output)


def told(
    second: float,
    root: str = HOST,
    state: str = "open",
    name: str = "i",
    **more: Any,  # noqa: ANN401
) -> Said:
    """Return a word on an incident whose first symptom came at 0 s."""
    signature = f"{kind_of(root)}-fault"
    seen = more.pop("seen", {root: 0.0})
    evidence = [
        Evidence(symptom="x", entity=entity, role="for", weight=1, first_at=moment(at))
        for entity, at in seen.items()
    ]
    onset_s = min(seen.values(), default=0.0)
    given = {
        "incident_id": name, "domain": DOMAIN, "update": 0, "state": state,
        "opened_at": moment(second), "updated_at": moment(second), "onset_at": moment(onset_s),
        "confidence": 0.9, "margin": 1.0, "rules": "", "rule": "",
        "causes": [Cause(entity=root, signature=signature, score=1.0)],
        "evidence": evidence if state != "cleared" else [],
    }  # fmt: skip
    return said(second, Incident.model_validate({**given, **more}))


def sent(second: float, verb: str, target: str, mode: str = "enforce", name: str = "i") -> Said:
    given = {
        "action_id": "a", "idempotency_key": f"{verb} {target}", "verb": verb, "target": target,
        "target_generation": 0, "domain": DOMAIN, "incident_id": name, "policy": "p", "step": 1,
        "mode": mode, "expires_at": moment(60),
    }  # fmt: skip
    return said(second, Action.model_validate(given))


def confirmed(second: float, verb: str, target: str, state: str = "CONFIRMED") -> Said:
    given = {
        "entity": HOST, "verdict": "note", "reason": "result", "incident_id": "i",
        "text": "it was", "policy": f"{verb} {target} {state}", "decided_at": moment(second),
    }  # fmt: skip
    return said(second, Decision.model_validate(given))


def found(*said_: Said, of: RuleSet | None = None) -> dict[str, Outage]:
    edges = [*cloud(), (VNF, "member_of", VM), (VNF, "member_of", OTHER)]
    record = Record({}, list(said_), topology(edges), {})
    listed = outages(record, of or rules(GOLD, SILVER))
    assert len({one.workload for one in listed}) == len(listed)
    return {one.workload: one for one in listed}


RECOVERED = [
    told(0.5),
    sent(0.5, "evacuate_vm", VM),
    confirmed(4.0, "evacuate_vm", VM),
    sent(4.0, "evacuate_vm", OTHER),
    confirmed(9.0, "evacuate_vm", OTHER),
]


def test_each_vm_of_a_dead_host_is_an_outage_with_its_own_recovery() -> None:
    known = found(*RECOVERED)
    told_of = {
        name: (one.level, one.detection_s, one.recovery_s, one.by) for name, one in known.items()
    }
    assert told_of == {
        VM: ("SAL1", 0.5, 4.0, "evacuate_vm"),
        OTHER: ("SAL2", 0.5, 9.0, "evacuate_vm"),
    }


def test_a_vm_that_never_came_back_is_missing_and_not_left_out() -> None:
    known = found(*RECOVERED[:3])
    assert known[OTHER].wanted
    assert known[OTHER].recovery_s is None
    figures = report(list(known.values()), ServiceLevels())
    assert figures["levels"]["SAL2"]["recovery"] == {
        "wanted": 1, "count": 0, "p50_s": None, "p95_s": None, "max_s": None, "budget_s": 15.0,
        "within": 0.0,
    }  # fmt: skip
    assert not figures["met"]


@pytest.mark.parametrize(
    ("recovery", "by", "second"),
    [
        pytest.param(("failover_vnf", VNF), "failover_vnf", 1.0, id="its function fails over"),
        pytest.param(("restart_vm", VM), "restart_vm", 1.0, id="it is restarted"),
        pytest.param(("live_migrate", VM), "live_migrate", 1.0, id="it is moved"),
        pytest.param(("restart_process", HOST), "restart_process", 1.0, id="the cause is mended"),
        pytest.param(("failover_link", "lag:r0h0"), "failover_link", 1.0, id="the link fails over"),
        pytest.param(("fence", HOST), "", None, id="a fence brings nothing back"),
        pytest.param(("restart_vm", OTHER), "", None, id="another is restarted"),
        pytest.param(("failover_vnf", "vnf:other"), "", None, id="another function fails over"),
    ],
)
def test_what_brings_a_vm_back(recovery: tuple[str, str], by: str, second: float | None) -> None:
    one = found(told(0.5), sent(0.6, *recovery), confirmed(1.0, *recovery))[VM]
    assert (one.by, one.recovery_s) == (by, second)


@pytest.mark.parametrize("state", ["FAILED", "UNKNOWN", "RUNNING", "TIMED_OUT"])
def test_only_what_is_confirmed_is_a_recovery(state: str) -> None:
    given = [told(0.5), sent(0.5, "evacuate_vm", VM), confirmed(4.0, "evacuate_vm", VM, state)]
    assert found(*given)[VM].recovery_s is None


def test_a_dry_run_recovers_nothing() -> None:
    given = [sent(0.5, "evacuate_vm", VM, "dry_run"), confirmed(4.0, "evacuate_vm", VM)]
    assert found(told(0.5), *given)[VM].recovery_s is None


def test_a_function_is_well_when_it_fails_over_or_when_all_its_vms_are() -> None:
    seen = {HOST: 0.0, VNF: 0.2}
    whole = [told(0.5, seen=seen), sent(0.5, "failover_vnf", VNF), *RECOVERED[1:]]
    assert found(*whole)[VNF].recovery_s == 9.0
    assert found(told(0.5, seen=seen), *RECOVERED[1:3])[VNF].recovery_s is None
    over = [*whole[:2], confirmed(1.2, "failover_vnf", VNF), *RECOVERED[1:]]
    assert found(*over)[VNF].recovery_s == 1.2


def test_what_nobody_means_to_recover_has_a_detection_only() -> None:
    notify = (POLICIES[1],)
    one = found(told(0.5), of=rules(GOLD, policies=notify))[VM]
    assert (one.wanted, one.detection_s) == (False, 0.5)
    opted_out = Settings(kind="settings", name="out", entities=[VM], recover=False)
    assert not found(*RECOVERED, of=rules(GOLD, opted_out))[VM].wanted


def test_what_was_only_suspected_is_no_outage_and_detection_ends_when_it_is_open() -> None:
    assert found(told(0.5, state="suspected")) == {}
    assert found(told(0.5, state="suspected"), told(2.0))[VM].detection_s == 2.0


def test_the_first_symptom_is_the_earliest_that_was_ever_told() -> None:
    later = told(3.0, seen={HOST: 0.4, VM: 0.2})
    assert found(told(1.0, seen={HOST: 0.4}), later)[VM].detection_s == 0.8


def test_incidents_of_a_workload_that_overlap_are_one_outage() -> None:
    alone = told(0.3, VM, name="v", seen={VM: 0.1})
    moved = told(1.0, VM, state="cleared", name="v", seen={VM: 0.1})
    known = found(alone, told(0.9, seen={HOST: 0.2}), moved, *RECOVERED[1:])
    assert known[VM].detection_s == pytest.approx(0.2)
    assert known[VM].recovery_s == pytest.approx(3.9)


def test_outages_apart_in_time_are_two() -> None:
    first = [told(0.5), told(10, state="cleared")]
    second = told(30.5, name="j", seen={HOST: 30.0})
    record = Record({}, [*first, second], topology(), {})
    times = [one.first_us - START_US for one in outages(record, rules()) if one.workload == VM]
    assert times == [0, 30_000_000]


def test_a_preventive_move_is_no_outage() -> None:
    watched = told(0.5, "nic:r0h0/a")
    given = [sent(0.5, "live_migrate", "vm:r0h1v0"), confirmed(60, "live_migrate", "vm:r0h1v0")]
    assert "vm:r0h1v0" not in found(watched, *given)


def test_cases_of_a_recording_know_nothing_of_each_other() -> None:
    both = [told(0.5), told(0.7).model_copy(update={"case": "b"})]
    listed = outages(Record({}, both, topology(), {}), rules())
    assert [(one.case, one.detection_s) for one in listed if one.workload == VM] == [
        ("", 0.5), ("b", 0.7),
    ]  # fmt: skip


def outage(detection_s: float, recovery_s: float | None, level: str) -> Outage:
    recovered_us = None if recovery_s is None else round(recovery_s * 1e6)
    told_us, end_us = round(detection_s * 1e6), 1 << 60
    return Outage("", VM, level, 0, told_us, end_us, wanted=True, recovered_us=recovered_us, by="x")


@pytest.mark.parametrize(("level", "budget_s"), [("SAL1", 6), ("SAL2", 15), ("SAL3", 25)])
def test_a_budget_holds_up_to_its_last_microsecond(level: str, budget_s: float) -> None:
    for more_s, met in ((0.0, True), (1e-6, False)):
        assert report([outage(1.0, budget_s + more_s, level)], ServiceLevels())["met"] is met
    assert not report([outage(1.000001, 1.0, level)], ServiceLevels())["met"]


def test_figures_of_a_level_are_of_its_own_outages() -> None:
    some = [outage(n / 100, float(n), "SAL2") for n in range(1, 21)]
    figures = report([*some, outage(9, None, "none")], ServiceLevels())
    row = figures["levels"]["SAL2"]
    assert row["recovery"] == {
        "wanted": 20, "count": 20, "p50_s": 10.0, "p95_s": 19.0, "max_s": 20.0, "budget_s": 15.0,
        "within": 0.75,
    }  # fmt: skip
    assert row["recovered_by"] == {"x": 20}
    assert figures["levels"]["none"]["detection"]["within"] is None
    assert [figures["levels"][level]["outages"] for level in LEVELS] == [0, 20, 0]


def test_nothing_hit_is_nothing_missed() -> None:
    assert report([], ServiceLevels())["met"]
