"""What the log says beside events: edits of the topology, commands, claims, verdicts."""

import pytest

from correlator import codebook
from correlator.engine import Engine
from correlator.rules.ruleset import SymptomSpec
from schemas.inputs import Command, OwnerClaim, Tick, TopologyDelta, Verdict
from tests.worlds import (
    RULES,
    SECOND_US,
    Row,
    at,
    engine,
    event,
    feed,
    incidents,
    reasons,
    roots,
    rule_set,
    run,
    signature,
)

APP = "app:r0h0v0"
VM = "vm:r0h0v0"
DOWN = ("app.down", APP)
BEAT = event(APP, "app.beat")


def command(name: str, target: str, **more: object) -> Command:
    return Command.model_validate({"command": name, "target": target, **more})


def delta(op: str, **more: object) -> TopologyDelta:
    return TopologyDelta.model_validate({"op": op, **more})


# ---- topology ------------------------------------------------------------------------------


def test_an_event_that_names_another_host_moves_the_machine() -> None:
    folding = engine()
    moved = event(VM, "vm.down", attrs={"host": "r0h1"}, event_id="e1")
    told = feed(folding, [(0, moved), (1, event(VM, "vm.down", attrs={"host": "r0h1"}))])
    assert reasons(told) == ["topology_healed"]
    assert list(folding.state.topology.dependencies(VM)) == ["host:r0h1", "pool:p"]
    assert folding.state.generations == {VM: 1}


@pytest.mark.parametrize(
    ("given", "reason", "generation"),
    [
        pytest.param(
            delta("move_edge", **{"from": VM, "to": "host:r0h1", "relation": "hosted_by"}),
            "topology_moved",
            1,
            id="a move",
        ),
        pytest.param(
            delta("add_edge", **{"from": VM, "to": "host:new", "relation": "hosted_by"}),
            None,
            1,
            id="a placement",
        ),
        pytest.param(
            delta("add_edge", **{"from": "pool:p", "to": VM, "relation": "serves"}),
            "topology_cycle",
            0,
            id="an edge that closes a cycle",
        ),
        pytest.param(
            delta("add_edge", **{"from": APP, "to": "host:r0h1"}), None, 0, id="a dependency"
        ),
        pytest.param(
            delta("remove_edge", **{"from": VM, "to": "host:r0h0", "relation": "hosted_by"}),
            None,
            0,
            id="an edge less",
        ),
        pytest.param(delta("add_node", node="lag:9", redundant=False), None, 0, id="a node"),
        pytest.param(delta("remove_node", node="host:r0h1"), None, 0, id="a node less"),
    ],
)
def test_an_edit_changes_the_graph_and_what_stands_nearby_is_as_if_made_anew(
    given: TopologyDelta, reason: str | None, generation: int
) -> None:
    folding = engine()
    rows: list[Row] = [(0, event(VM, "vm.down")), (0, event("host:r0h1", "host.down")), (1, given)]
    told = feed(folding, rows)
    assert reasons(told) == ([reason] if reason else [])
    assert folding.state.generations.get(VM, 0) == generation
    assert "topology_unchanged" not in folding.state.counters or reason == "topology_cycle"
    fresh = Engine(folding.state, RULES)
    assert folding._domain.standing.support == fresh._domain.standing.support  # noqa: SLF001


@pytest.mark.parametrize(
    "given",
    [
        delta("add_node", node=VM),
        delta("add_node"),
        delta("remove_node", node="no:1"),
        delta("add_edge", node=VM),
        delta("add_edge", **{"from": VM, "to": "host:r0h0", "relation": "hosted_by"}),
        delta("move_edge", **{"from": VM, "to": "host:r0h0", "relation": "hosted_by"}),
        delta("remove_edge", **{"from": VM, "to": "host:r0h1", "relation": "hosted_by"}),
    ],
)
def test_an_edit_that_changes_nothing_is_counted(given: TopologyDelta) -> None:
    folding = engine()
    assert feed(folding, [(0, given)]) == []
    assert folding.state.counters["topology_unchanged"] == 1


def test_an_edit_in_a_hub_works_everything_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codebook, "NEIGHBOURHOOD_MAX", 1)
    folding = engine()
    rows: list[Row] = [
        (0, event(VM, "vm.down")),
        (1, delta("add_edge", **{"from": VM, "to": "host:r0h1"})),
    ]
    feed(folding, rows)
    assert folding.state.dirty == {("vm.down", VM)}


# ---- commands ------------------------------------------------------------------------------


def test_a_fault_in_maintenance_opens_nothing_until_the_session_ends() -> None:
    start = command("maintenance_start", APP, by="op", reason="upgrade")
    rows: list[Row] = [(0, start), (1, event(APP, "app.down")), (30, event(APP, "app.down"))]
    told = run(engine(), rows)
    assert (incidents(told), reasons(told)) == ([], ["maintenance_started", "maintenance"])
    told = run(engine(), [*rows[:2], (30, command("maintenance_end", APP))])
    assert roots(told) == [APP]
    assert incidents(told)[0].opened_at >= "2026-11-23T10:00:30"


def test_a_session_with_an_end_is_overdue_and_rules_apply_again() -> None:
    start = command("maintenance_start", APP, until=at(20).isoformat())
    told = run(engine(), [(0, start), (1, event(APP, "app.down"))])
    assert reasons(told)[:3] == ["maintenance_started", "maintenance", "maintenance_overdue"]
    assert roots(told) == [APP]


def test_a_session_that_is_made_longer_or_endless_ends_when_it_says() -> None:
    rows: list[Row] = [
        (0, command("maintenance_start", APP, until=at(20).isoformat())),
        (1, command("maintenance_start", APP, until=at(40).isoformat())),
        (2, command("maintenance_start", VM, until=at(3).isoformat())),
        (2, command("maintenance_start", VM)),
        (2, command("maintenance_start", "x", until=at(1).isoformat())),
        (2, command("maintenance_start", "host:r0h0", until=at(3).isoformat())),
        (2, command("maintenance_end", "host:r0h0")),
    ]
    folding = engine()
    told = run(folding, rows)
    overdue = [one for one in told if getattr(one, "reason", "") == "maintenance_overdue"]
    assert [one.model_dump()["entity"] for one in overdue] == ["domain:pod-1", APP]
    assert list(folding.state.sessions) == [VM]


def test_a_session_about_the_cause_of_an_open_incident_looks_at_all_it_holds() -> None:
    rows: list[Row] = [
        (0, event(VM, "vm.down")),
        (0, event(APP, "app.down")),
        *((n, Tick()) for n in range(1, 5)),
        (5, command("maintenance_end", VM)),
    ]
    folding = engine(ticks="recorded")
    assert roots(feed(folding, rows)) == [VM]
    assert folding.state.dirty == {("vm.down", VM), DOWN}


def test_a_session_is_overdue_by_log_time_also_where_live_time_lags() -> None:
    start = command("maintenance_start", APP, until=at(5).isoformat())
    folding = engine(ticks="recorded")
    told = feed(folding, [(0, start), (3, Tick()), (60, Tick()), (61.4, Tick()), (62.8, Tick())])
    assert reasons(told)[-1] == "maintenance_overdue"
    early = engine(ticks="recorded")
    early.state.live_us = 10 * SECOND_US
    early.state.sessions.update({})
    feed(early, [(0, start), (0.1, Tick())])
    assert APP in early.state.sessions


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        pytest.param(command("maintenance_end", APP), "maintenance_ended", id="no session"),
        pytest.param(command("set_mode", "enforce"), "mode_set", id="mode"),
        pytest.param(command("set_mode", "panic"), "command_has_no_object", id="no mode"),
        pytest.param(command("approve", "plan:1"), "command_has_no_object", id="no plan"),
        pytest.param(command("activate_rules", "rules:x"), "rules_unknown", id="no rules"),
        pytest.param(
            command("hold", "pod-1", expires_at=at(-1).isoformat()),
            "command_expired",
            id="too late",
        ),
        pytest.param(command("hold", ":"), "domain_hold", id="a target that is no entity"),
    ],
)
def test_every_command_is_answered(given: Command, reason: str) -> None:
    assert reasons(feed(engine(), [(0, given)])) == [reason]


def test_a_repeated_command_changes_nothing() -> None:
    folding = engine()
    hold = command("hold", "pod-1", command_id="c1")
    assert len(feed(folding, [(0, hold), (1, hold)])) == 1
    assert folding.state.counters["duplicates"] == 1


def test_a_rule_set_becomes_active_by_the_log() -> None:
    other = rule_set(
        [signature("service-down", "app", ("svc.down", "self", 0.9))],
        [SymptomSpec("svc.down", ("app.down",), spurious=1e-4)],
        name="other",
    )
    folding = engine(library=[other])
    rows: list[Row] = [
        (0, event(APP, "app.down")),
        (0, BEAT),
        (1, event(VM, "app.down", "cleared", at=at(0))),
        (5, command("activate_rules", f"rules:{other.hash}")),
        (6, event(APP, "app.down")),
    ]
    told = run(folding, rows)
    named = [(one.causes[0].signature, one.state) for one in incidents(told)]
    assert list(dict.fromkeys(named)) == [
        ("app-fault", "open"),
        ("app-fault", "cleared"),
        ("service-down", "open"),
        ("service-down", "cleared"),
    ]
    assert folding.rules is other
    assert (folding.state.alive, folding.state.overtaking) == ({}, {})


def test_a_deadline_of_a_rule_that_is_gone_means_nothing() -> None:
    folding = engine(library=[rule_set([], [], name="empty")])
    empty = rule_set([], [], name="empty")
    told = run(folding, [(0, BEAT), (1, command("activate_rules", empty.hash))])
    assert reasons(told) == ["rules_activated"]


def test_an_incident_whose_signature_is_gone_is_taken_over_by_one_that_is_not() -> None:
    renamed = rule_set([signature("app-dead", "app", ("app.down", "self", 0.9))], name="renamed")
    folding = engine(library=[renamed])
    activate = command("activate_rules", renamed.hash)
    told = incidents(run(folding, [(0, event(APP, "app.down")), (5, activate)]))
    named = dict.fromkeys(one.causes[0].signature for one in told)
    assert list(named) == ["app-fault", "app-dead"]
    assert len({one.incident_id for one in told}) == 1


# ---- claims and verdicts -------------------------------------------------------------------


def test_the_first_claim_that_names_the_epoch_wins() -> None:
    folding = engine()
    claims: list[Row] = [
        (0, OwnerClaim(owner="w1")),
        (1, OwnerClaim(owner="w2")),
        (2, OwnerClaim(owner="w2", supersedes=0)),
        (3, OwnerClaim(owner="w3", supersedes=0)),
    ]
    feed(folding, claims)
    assert folding.state.epoch == 2


def test_the_word_of_the_region_is_a_symptom_of_the_shared_resource() -> None:
    wan = rule_set(
        [signature("wan-fault", "link", ("wan.failed", "self", 0.9))],
        [SymptomSpec("wan.failed", ("verdict.failed",), spurious=1e-6)],
    )
    words = [("failed", 0), ("unknown", 1), ("working", 2)]
    rows: list[Row] = [
        (s, Verdict.model_validate({"resource": "link:wan-7", "state": w})) for w, s in words
    ]
    told = incidents(run(engine(rules=wan, edges=[("host:1", "cabled_to", "link:wan-7")]), rows))
    assert [one.state for one in told] == ["open", "cleared"]
    assert told[-1].updated_at == "2026-11-23T10:00:12.000000Z"


def test_the_library_gives_the_rules_that_a_restored_state_names() -> None:
    other = rule_set([], name="other")
    restored = engine(rules=other, library=[RULES])
    restored.state.rules_hash = RULES.hash
    assert Engine(restored.state, other, {RULES.hash: RULES}).rules is RULES
