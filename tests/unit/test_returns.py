"""Storms that pass, fences that do not help, and hosts that come back."""

from dataclasses import replace

import pytest

from correlator.engine import Engine
from correlator.rules.ruleset import RuleSet, SymptomSpec
from schemas.inputs import Command, OwnerClaim, Pulse
from schemas.outputs import Action, Output
from schemas.rules import Policy
from tests.unit.test_steps import (
    HOST,
    VMS,
    answer,
    begun,
    command,
    down,
    on,
    rules,
    sent,
    ticking,
)
from tests.worlds import (
    SIGNATURES,
    Row,
    actions,
    cloud,
    engine,
    event,
    feed,
    reasons,
    rule_set,
    signature,
)

NEIGHBOUR = "host:r0h1"
OFF = {"method": "bmc_off", "observed_state": "OFF"}
RECOVER: list[dict[str, object]] = [
    {"quarantine": {}},
    {"fence": {"methods": ["bmc_off", "storage_blocklist"], "timeout": "10s"}},
    {"evacuate_vm": {"target": "$root.vm", "needs": "fence.confirmed"}},
    {"cleanup_net": {"needs": "fence.confirmed"}},
    {"unfence": {"needs": "cleanup_net.confirmed"}},
]


def cleared(second: float, host: str = HOST) -> list[Row]:
    """Return the end of all that stood for a dead host."""
    rows = down(host)
    return [
        (second, one.model_copy(update={"state": "cleared", "event_id": None})) for _, one in rows
    ]


def once_more(second: float) -> list[Row]:
    """Return the same death at another time, told by new events."""
    return [(second + at, one.model_copy(update={"event_id": None})) for at, one in down()]


def confirmed(second: float, *given: Action, **proof: str) -> list[Row]:
    return [(second, answer(one, "CONFIRMED", **(proof or OFF))) for one in given]


def recovered() -> tuple[Engine, list[Output]]:
    """Return an engine 3 s after a death, everything done and confirmed, and what it said."""
    folding, told = begun(*RECOVER)
    rows = confirmed(1.5, *sent(told, "quarantine"), *sent(told, "fence"))
    told = on(folding, 1.0, 2.0, *rows)
    done = [*sent(told, "evacuate_vm"), *sent(told, "cleanup_net")]
    return folding, on(folding, 2.0, 3.0, *confirmed(2.5, *done))


# ---- storms --------------------------------------------------------------------------------

TOGETHER = [*down(), *down(NEIGHBOUR)]


def stormy() -> Engine:
    """Return an engine 20 s after two hosts of a rack died, one of which came back at 10 s."""
    folding = engine(rules({"fence": {}}), cloud(), ticks="recorded")
    told = feed(folding, ticking(TOGETHER, 9.0))
    assert (actions(told), set(reasons(told)) & {"group_hold", "cool_down"}) == ([], {"group_hold"})
    told = on(folding, 9.0, 20.0, *cleared(10.0, NEIGHBOUR))
    assert [one for one in actions(told) if one[0] == "fence"] == []
    assert "cool_down" in reasons(told)
    return folding


def again(second: float, *sources: int) -> list[Row]:
    """Return what observers say again of a dead host."""
    return [
        (second, event(HOST, "host.down", source=f"peer:{n}", attrs={"plane": plane}))
        for n in sources
        for plane in ("mgmt", "storage")
    ]


def test_after_a_storm_what_is_confirmed_anew_is_fenced_at_once() -> None:
    assert actions(on(stormy(), 20.0, 21.0, *again(20.5, 8, 9))) == [("fence", HOST)]


def test_after_a_storm_one_word_is_no_confirmation_and_time_is() -> None:
    folding = stormy()
    assert actions(on(folding, 20.0, 69.0, *again(20.5, 8))) == []
    assert actions(on(folding, 69.0, 72.0)) == [("fence", HOST)]


def test_a_person_may_end_what_a_storm_holds_and_not_what_came_before_it() -> None:
    folding = engine(rules({"fence": {}}), cloud(), ticks="recorded")
    feed(folding, ticking(TOGETHER, 9.0))
    (name,) = (i.incident_id for i in folding.state.incidents.values() if i.fault[1] == HOST)
    told = on(folding, 9.0, 10.0, (9.5, command("approve", name)))
    assert actions(told) == [("fence", HOST)]


def test_the_share_of_the_fleet_is_a_storm_too() -> None:
    stop = {"stop_if": {"roots": "host", "share": "30%", "within": "30s"}}
    made = rules({"fence": {}})
    (policy,) = made.policies
    held = policy.model_validate(
        {**policy.model_dump(by_alias=True, exclude_unset=True), "hold": "0s", "guard": stop}
    )
    folding = engine(replace(made, policies=(held,)), cloud(), ticks="recorded")
    told = feed(folding, ticking(down(), 35.0))
    assert actions(told) == []
    assert {"guard_stop_if", "cool_down"} <= set(reasons(told))
    assert actions(on(folding, 35.0, 95.0)) == [("fence", HOST)]


# ---- again and again -----------------------------------------------------------------------


def test_a_third_ladder_within_half_an_hour_is_for_a_person() -> None:
    folding, told = begun({"fence": {}})
    for number in range(2):
        second = 100.0 * number
        on(folding, second + 2, second + 3, *confirmed(second + 2, *sent(told, "fence")))
        on(folding, second + 3, second + 90, *cleared(second + 4))
        told = on(folding, second + 90, second + 102, *once_more(second + 100))
        assert len(sent(told, "fence")) == (1 if number == 0 else 0)
    assert "too_often" in reasons(told)
    assert sent(told, "page")[0].parameters["reason"].startswith("fence host:r0h0: 2 times")


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        pytest.param({}, 3, id="three times in ten minutes"),
        pytest.param(
            {"restarts_per_vm": {"actions": 12, "per": "1h"}}, 12, id="what its site allows"
        ),
    ],
)
def test_a_vm_is_restarted_so_often_each_time_anew(limits: dict[str, object], most: int) -> None:
    folding = engine(rules({"restart_vm": {}}, **limits), cloud(), ticks="recorded")
    keys, told = set[str](), list[Output]()
    for number in range(most + 1):
        second = 100.0 * number
        fallen: list[Row] = [
            (second, event(VMS[0], "vm.down", source="peer:1")),
            (second, event(VMS[0], "vm.down", source="peer:2")),
            (second + 0.1, event("app:r0h0v0", "app.down", source="peer:3")),
        ]
        told = on(folding, second - 1, second + 4, *fallen)
        keys |= {one.idempotency_key for one in sent(told, "restart_vm")}
        assert len(keys) == min(number + 1, most)
        up = [(second + 6, one.model_copy(update={"state": "cleared"})) for _, one in fallen]
        on(folding, second + 4, second + 90, *confirmed(second + 5, *sent(told, "restart_vm")), *up)
    assert "too_often" in reasons(told)


# ---- coming back ---------------------------------------------------------------------------


def test_a_host_comes_back_after_its_moves_its_clean_up_and_a_soak_and_then_takes_new_vms() -> None:
    folding, told = recovered()
    assert reasons(told)[-1] == "soak"
    assert actions(on(folding, 3.0, 122.0)) == []
    told = on(folding, 122.0, 123.0)
    assert actions(told) == [("unfence", HOST)]
    on(folding, 123.0, 124.0, *confirmed(123.5, *sent(told, "unfence")))
    told = on(folding, 124.0, 150.0, *cleared(130.0))
    assert actions(told) == [("unquarantine", HOST)]
    on(folding, 150.0, 151.0, *confirmed(150.5, *sent(told, "unquarantine")))
    assert not folding.state.ended


def test_a_host_that_returns_by_itself_stays_in_quarantine_until_it_is_let_back() -> None:
    folding, _ = recovered()
    told = on(folding, 3.0, 122.0, *cleared(4.0))
    assert actions(told) == []
    told = on(folding, 122.0, 123.0)
    assert actions(told) == [("unfence", HOST)]
    told = on(folding, 123.0, 140.0, *confirmed(123.5, *sent(told, "unfence")))
    assert actions(told) == [("unquarantine", HOST)]


def test_a_host_that_cannot_be_let_back_is_for_a_person() -> None:
    folding, _ = recovered()
    on(folding, 3.0, 122.0, *cleared(4.0))
    (unfence,) = sent(on(folding, 122.0, 123.0), "unfence")
    told = on(folding, 123.0, 280.0, (124.0, answer(unfence)))
    assert actions(told) == [("page", HOST)]
    assert reasons(told).count("still_fenced") == 2
    assert not folding.state.ended


@pytest.mark.parametrize("boots", [True, False])
def test_what_was_kept_from_its_disks_must_have_booted_before_it_gets_them_back(
    boots: bool,  # noqa: FBT001
) -> None:
    folding, told = begun(*RECOVER)
    seen = Pulse(collector="collector:1", seq=1, boot_id="b1", host=HOST)
    folding.state.boots[HOST] = "b1"
    told = on(folding, 1.0, 2.0, (1.5, answer(sent(told, "fence")[0])))
    blocked = {"method": "storage_blocklist", "observed_state": "BLOCKED"}
    told = on(folding, 2.0, 3.0, *confirmed(2.5, *sent(told, "fence"), **blocked))
    done = [*sent(told, "evacuate_vm"), *sent(told, "cleanup_net")]
    told = on(folding, 3.0, 4.0, *confirmed(3.5, *done))
    assert reasons(told)[-1] == "not_rebooted"
    rows: list[Row] = [(10.0, seen.model_copy(update={"boot_id": "b2"}))] if boots else []
    told = on(folding, 4.0, 131.0, *rows)
    assert len(sent(told, "unfence")) == int(boots)


def test_a_host_whose_workloads_have_not_all_arrived_does_not_come_back() -> None:
    folding, told = begun(*RECOVER)
    told = on(folding, 1.0, 2.0, *confirmed(1.5, *sent(told, "fence")))
    first, _ = sent(told, "evacuate_vm")
    told = on(folding, 2.0, 50.0, *confirmed(2.5, first, *sent(told, "cleanup_net")))
    assert actions(told) == []
    assert reasons(told)[-1] == "still_moving"


def kept_out(*more: Row) -> tuple[Engine, list[Output]]:
    """Return what is said of a quarantine alone, of a host that is well again after 5 s."""
    folding, told = begun({"quarantine": {}})
    rows = [*confirmed(1.5, *sent(told, "quarantine")), *cleared(5.0), *more]
    return folding, on(folding, 1.0, 20.0, *rows)


def test_a_quarantine_ends_with_its_incident() -> None:
    folding, told = kept_out()
    (lifted,) = sent(told, "unquarantine")
    assert lifted.policy == "let-back"
    assert list(folding.state.ended) == [lifted.incident_id]
    on(folding, 20.0, 21.0, *confirmed(20.5, lifted))
    assert not folding.state.ended


def test_a_quarantine_that_another_incident_asks_for_stays_until_that_ends() -> None:
    given = {"kind": "policy", "confidence": ">= 0.5"}
    hosts = {"vm-fault": "$root.^host", "app-fault": "$root.^vm.^host"}
    policies = [
        {**given, "name": cause, "cause": cause, "do": [{"quarantine": {"target": target}}]}
        for cause, target in hosts.items()
    ]
    alone = [one for one in SIGNATURES if one.name in hosts]
    made = rule_set(alone, policies=map(Policy.model_validate, policies))
    folding = engine(made, cloud(), ticks="recorded")
    ends: list[tuple[float, str, str]] = [
        (10.0, "vm:r0h0v1", "vm.down"),
        (10.0, "app:r0h0v1", "app.down"),
        (30.0, "app:r0h0v0", "app.down"),
    ]
    raised: list[Row] = [(0.0, event(entity, signal)) for _, entity, signal in ends]
    ended: list[Row] = [(at, event(entity, signal, "cleared")) for at, entity, signal in ends]
    told = feed(folding, ticking([*raised, *ended], 25.0))
    assert actions(told) == [("quarantine", HOST)] * 2
    assert "quarantined_by_another" in reasons(told)
    assert actions(on(folding, 29.0, 45.0, *ended[2:])) == [("unquarantine", HOST)]


def test_a_host_under_maintenance_stays_in_quarantine_for_as_long() -> None:
    folding, told = kept_out((4.0, command("maintenance_start", HOST)))
    assert sent(told, "unquarantine") == []
    told = on(folding, 20.0, 40.0, (21.0, command("maintenance_end", HOST)))
    assert len(sent(told, "unquarantine")) == 1


def test_a_quarantine_that_cannot_be_lifted_is_for_a_person() -> None:
    folding, told = kept_out()
    for number in range(3):
        (lifting,) = sent(told, "unquarantine")
        second = 20.0 + number
        told = on(folding, second, second + 1, (second + 0.5, answer(lifting)))
    assert actions(told) == [("page", HOST)]
    assert not folding.state.ended


def test_a_new_owner_goes_on_lifting_what_its_predecessor_had() -> None:
    folding, told = kept_out()
    (lifting,) = sent(told, "unquarantine")
    claim = OwnerClaim(owner="worker-2", supersedes=None)
    (again_,) = sent(on(folding, 20.0, 20.2, (20.1, claim)), "unquarantine")
    assert again_.idempotency_key == lifting.idempotency_key


def test_the_next_quarantine_is_no_duplicate_of_one_that_was_lifted() -> None:
    folding, told = begun({"quarantine": {}})
    (first,) = sent(told, "quarantine")
    told = on(folding, 1.0, 20.0, *confirmed(1.5, first), *cleared(5.0))
    on(folding, 20.0, 21.0, *confirmed(20.5, *sent(told, "unquarantine")))
    (second,) = sent(on(folding, 29.0, 32.0, *once_more(30.0)), "quarantine")
    assert second.target_generation == first.target_generation
    assert second.idempotency_key != first.idempotency_key


def with_sessions(made: RuleSet) -> RuleSet:
    """Return rules that know the fact of a session, and the cause it stands for."""
    asked = SymptomSpec("maint.requested", ("maint.requested",), spurious=1e-12)
    cause = signature("session", "host", ("maint.requested", "self", 0.99), prior=1e-3)
    symptoms = {**made.symptoms, asked.name: asked}
    return replace(made, symptoms=symptoms, signatures=(*made.signatures, cause))


# ---- maintenance ---------------------------------------------------------------------------


def test_a_session_begun_by_a_command_raises_its_fact_and_its_end_clears_it() -> None:
    made = rules({"quarantine": {}}, {"live_migrate": {"target": "$root.vm"}})
    folding = engine(with_sessions(made), cloud(), ticks="recorded")
    begin = Command.model_validate(
        {"command": "maintenance_start", "target": HOST, "by": "operator:7"}
    )
    told = feed(folding, ticking([(0.0, begin)], 5.0))
    assert actions(told) == [("quarantine", HOST), *(("live_migrate", vm) for vm in VMS)]
    assert all(
        "maintenance" not in [c.fact for c in one.preconditions]
        for one in sent(told, "live_migrate")
    )
    told = on(folding, 5.0, 30.0, (6.0, command("maintenance_end", HOST)))
    assert [one for one in actions(told) if one[0] == "unquarantine"] == [("unquarantine", HOST)]


def test_a_session_empties_its_own_host_and_nothing_else_that_is_worked_on() -> None:
    made = rules({"live_migrate": {"target": "$root.vm"}})
    folding = engine(with_sessions(made), cloud(), ticks="recorded")
    rows: list[Row] = [(0.0, command("maintenance_start", one)) for one in (VMS[0], HOST)]
    told = feed(folding, ticking(rows, 5.0))
    assert actions(told) == [("live_migrate", VMS[1])]
