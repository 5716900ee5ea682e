"""Steps that are tried again, come when another has failed, or when a fact is known."""

from dataclasses import replace

import pytest

from correlator.engine import Engine
from correlator.rules.ruleset import RuleSet, SymptomSpec
from correlator.state import restore
from schemas.inputs import Command, Result, Tick
from schemas.outputs import Action, Decision, Output
from schemas.rules import Limits, Policy
from tests.worlds import SYMPTOMS, Row, actions, cloud, engine, event, feed, reasons, rule_set

HOST = "host:r0h0"
VMS = ["vm:r0h0v0", "vm:r0h0v1"]
DUMP = SymptomSpec("os.kdump", ("os.kdump",), spurious=1e-6, hard=True)
OFF = SymptomSpec("hw.power.off", ("hw.power.off",), spurious=1e-6, hard=True)
WARM = SymptomSpec("host.warm", ("host.warm",), spurious=1e-3)
MORE = (*SYMPTOMS, DUMP, OFF, WARM)


def down(host: str = HOST) -> list[Row]:
    """Return what two observers say of a dead host, and others of what runs on it."""
    name = host.removeprefix("host:")
    rows: list[Row] = [
        (0.0, event(host, "host.down", source="peer:8", attrs={"plane": "mgmt"}, event_id="e1")),
        (0.0, event(host, "host.down", source="peer:9", attrs={"plane": "storage"})),
        (0.0, event(host, "host.down", source="peer:8", attrs={"plane": "storage"})),
        (0.0, event(host, "host.down", source="peer:9", attrs={"plane": "mgmt"})),
    ]
    for v in range(2):
        rows.append((0.1, event(f"vm:{name}v{v}", "vm.down", source=f"peer:{v}")))
        rows.append((0.2, event(f"app:{name}v{v}", "app.down", source=f"peer:{v}")))
    return rows


def rules(*steps: dict[str, object], hold: object = "0s", **limits: object) -> RuleSet:
    """Return rules that take these steps about a dead host."""
    given = {"kind": "policy", "name": "p", "cause": "*", "confidence": ">= 0.9", "hold": hold}
    policy = Policy.model_validate({**given, "do": list(steps)})
    made = rule_set(policies=[policy], symptoms=MORE)
    return replace(made, limits=Limits.model_validate(limits))


def begun(*steps: dict[str, object], **limits: object) -> tuple[Engine, list[Output]]:
    """Return an engine that has just heard of a dead host, and what it said."""
    folding = engine(rules(*steps, **limits), cloud(), ticks="recorded")
    return folding, feed(folding, ticking(down(), 1.0))


def ticking(rows: list[Row], end: float, start: float = 0.0) -> list[Row]:
    """Return rows with a tick each 100 ms of a span."""
    count = round((end - start) * 10)
    ticks: list[Row] = [(start + n / 10, Tick()) for n in range(1, count + 1)]
    return sorted([*rows, *ticks], key=lambda row: row[0])


def on(folding: Engine, start: float, end: float, *rows: Row) -> list[Output]:
    """Return what an engine says of more of its log."""
    return feed(folding, ticking(list(rows), end, start), folding.state.offset + 1)


def sent(outputs: list[Output], verb: str) -> list[Action]:
    return [one for one in outputs if isinstance(one, Action) and one.verb == verb]


def answer(action: Action, state: str = "FAILED", **proof: str) -> Result:
    given = {"action_id": action.action_id, "idempotency_key": action.idempotency_key}
    return Result.model_validate({**given, "actuator": "a:1", "state": state, "proof": proof})


def test_a_restart_is_tried_three_times_five_seconds_apart_and_then_the_next_step_comes() -> None:
    after = {"target": "$root.vm", "needs": "restart_process.failed"}
    folding, told = begun({"restart_process": {"timeout": "20s"}}, {"notify": after}, {"page": {}})
    times = []
    for number in range(3):
        (again,) = sent(told, "restart_process")
        assert sent(told, "notify") == []
        assert again.on_timeout == ("retry" if number < 2 else "none")
        second = 2.0 + 10 * number
        told = on(folding, second, second + 4.9, (second, answer(again)))
        times.append(actions(told))
        told += on(folding, second + 5.0, second + 5.3)
    assert times == [[], [], [("notify", vm) for vm in VMS]]
    assert sent(told, "restart_process") == []


def test_a_step_for_failures_does_not_come_where_one_try_was_confirmed() -> None:
    folding, told = begun({"restart_process": {}}, {"notify": {"needs": "restart_process.failed"}})
    (first,) = sent(told, "restart_process")
    told = on(folding, 2.0, 8.0, (2.0, answer(first)))
    (second,) = sent(told, "restart_process")
    assert second.supersedes == first.idempotency_key
    assert actions(on(folding, 9.0, 60.0, (9.0, answer(second, "CONFIRMED")))) == []


@pytest.mark.parametrize(
    ("state", "then"),
    [
        pytest.param("FAILED", [("notify", VMS[0]), ("rebuild_vm", VMS[0])], id="known to fail"),
        pytest.param(
            "UNKNOWN",
            [("notify", VMS[0]), ("page", HOST)],
            id="a start that may be under way is told, and a person is called",
        ),
    ],
)
def test_more_is_done_of_a_workload_only_where_it_is_known_to_have_failed(
    state: str, then: list[tuple[str, str]]
) -> None:
    restart: dict[str, object] = {"target": "$root.vm", "tries": 1}
    late: dict[str, object] = {"target": "$root.vm", "needs": "restart_vm.failed"}
    folding, told = begun({"restart_vm": restart}, {"notify": late}, {"rebuild_vm": late})
    first, second = sent(told, "restart_vm")
    told = on(folding, 2.0, 3.0, (2.0, answer(first, state)), (2.0, answer(second, "CONFIRMED")))
    assert actions(told) == then


def test_what_waits_for_a_step_that_did_not_come_is_passed_over_with_it() -> None:
    steps: list[dict[str, object]] = [
        {"restart_process": {}},
        {"fence": {"needs": "restart_process.failed"}},
        {"force_down": {"needs": "fence.confirmed"}},
        {"notify": {}},
    ]
    _, told = begun(*steps)
    assert actions(told) == [("restart_process", HOST), ("notify", HOST)]
    assert "needs_proof" not in reasons(told)


WARMS = [event(HOST, "host.warm", source=f"sensor:{n}") for n in range(2)]
COOLS = event(HOST, "host.warm", "cleared", source="sensor:0")
LOST = [event(HOST, "host.warm", "unknown", source=f"sensor:{n}") for n in range(2)]


@pytest.mark.parametrize(
    ("told", "known"),
    [
        pytest.param([], set(), id="nobody has told"),
        pytest.param([WARMS[0]], {"raised", "seen"}, id="raised"),
        pytest.param([WARMS[0], COOLS], {"cleared", "seen"}, id="cleared"),
        pytest.param([WARMS[0], LOST[0]], set(), id="its one source knows no longer"),
        pytest.param([*WARMS, LOST[0]], {"raised", "seen"}, id="another source still knows"),
        pytest.param([*WARMS, *LOST], set(), id="no source knows any longer"),
        pytest.param([WARMS[0], LOST[0], WARMS[0]], {"raised", "seen"}, id="known again"),
        pytest.param([LOST[0]], set(), id="unknown from the beginning"),
    ],
)
@pytest.mark.parametrize("value", ["raised", "cleared", "seen"])
def test_a_fact_has_three_values_and_unknown_is_none_that_can_be_asked_for(
    told: list[object], known: set[str], value: str
) -> None:
    fact = {"see": "host.warm", "is": value}
    made = rules({"notify": {"when": fact}}, {"page": {"unless": fact}})
    folding = engine(made, cloud(), ticks="recorded")
    facts: list[Row] = [(-0.5 + n / 10, one) for n, one in enumerate(told)]  # type: ignore[misc]
    outputs = feed(folding, ticking([*facts, *down()], 2.0))
    expected = [("notify", HOST)] if value in known else [("page", HOST)]
    assert actions(outputs) == expected


def test_a_fact_that_comes_later_is_waited_for() -> None:
    folding, told = begun(
        {"notify": {"when": [{"see": "vm.hot", "at": "vm"}, {"see": "host.warm"}]}}
    )
    assert actions(told) == []
    assert actions(on(folding, 1.0, 2.0, (1.5, WARMS[0]))) == [("notify", HOST)]


FENCE: dict[str, object] = {"fence": {"methods": ["kdump", "bmc_off"], "timeout": "10s"}}


def dumps(second: float) -> Row:
    return second, event(HOST, "os.kdump", source="crash-kernel", event_id=f"dump {second}")


def test_a_dump_is_a_method_where_it_is_told_of_and_no_power_is_cut_under_it() -> None:
    folding, told = begun(
        FENCE, {"evacuate_vm": {"target": "$root.vm", "needs": "fence.confirmed"}}
    )
    (power,) = sent(told, "fence")
    assert (power.method, power.on_timeout) == ("bmc_off", "next_method")
    told = on(folding, 1.0, 3.0, dumps(1.5), (2.0, answer(power)))
    (dump,) = sent(told, "fence")
    assert (dump.method, dump.on_timeout) == ("kdump", "page")
    proof = {"method": "kdump", "observed_state": "DUMPING"}
    told = on(folding, 3.0, 4.0, (3.5, answer(dump, "CONFIRMED", **proof)))
    assert actions(told) == [("evacuate_vm", vm) for vm in VMS]


def test_power_is_cut_when_a_dump_that_proves_nothing_has_been_quiet() -> None:
    folding = engine(rules(FENCE), cloud(), ticks="recorded")
    told = feed(folding, ticking([dumps(0.0), *down()], 1.0))
    (dump,) = sent(told, "fence")
    assert dump.method == "kdump"
    told = on(folding, 1.0, 68.9, (1.0, answer(dump)), dumps(9.0))
    assert actions(told) == []
    assert reasons(told)[-1] == "dumping"
    (power,) = sent(on(folding, 68.9, 70.0), "fence")
    assert power.method == "bmc_off"


def test_a_dump_is_over_when_the_power_is_seen_to_go() -> None:
    folding = engine(rules(FENCE), cloud(), ticks="recorded")
    told = feed(folding, ticking([dumps(0.0), *down()], 1.0))
    gone = (2.0, event(HOST, "hw.power.off", source="redfish"))
    told = on(folding, 1.0, 4.0, gone, (2.5, answer(sent(told, "fence")[0])))
    assert [one.method for one in sent(told, "fence")] == ["bmc_off"]


@pytest.mark.parametrize(
    ("proof", "then"),
    [
        pytest.param({"method": "vm_destroy", "observed_state": "DESTROYED"}, True, id="its own"),
        pytest.param({"method": "bmc_off", "observed_state": "OFF"}, False, id="its host's"),
    ],
)
def test_a_vm_is_fenced_by_its_own_proof_alone(proof: dict[str, str], then: bool) -> None:  # noqa: FBT001
    fence: dict[str, object] = {"target": "$root.vm", "methods": ["vm_destroy"]}
    rebuild = {"target": "$root.vm", "needs": "fence.confirmed"}
    folding, told = begun({"fence": fence}, {"rebuild_vm": rebuild}, fences_running_max=2)
    rows: list[Row] = [(2.0, answer(one, "CONFIRMED", **proof)) for one in sent(told, "fence")]
    assert bool(sent(on(folding, 2.0, 3.0, *rows), "rebuild_vm")) is then
    assert HOST not in folding.state.fenced


def test_a_dead_host_is_not_fenced_by_the_word_about_a_vm() -> None:
    folding, told = begun({"fence": {}}, {"force_down": {"needs": "fence.confirmed"}})
    proof = {"method": "vm_destroy", "observed_state": "DESTROYED"}
    told = on(folding, 2.0, 3.0, (2.0, answer(sent(told, "fence")[0], "CONFIRMED", **proof)))
    assert "no_proof" in reasons(told)
    assert sent(told, "force_down") == []


def test_an_action_says_what_decided_what_it_touches_and_what_follows() -> None:
    folding, told = begun({"notify": {}}, {"fence": {"timeout": "10s", "methods": ["bmc_off"]}})
    (fence,) = sent(told, "fence")
    (notify,) = sent(told, "notify")
    assert fence.reply_to is not None
    assert (fence.reply_to.topic, fence.reply_to.key) == ("firstfault.log.v1", "pod-1")
    assert fence.trace_id == notify.trace_id == fence.incident_id
    assert fence.evidence[0] == "e1"
    assert fence.blast is not None
    assert (fence.blast.hosts, fence.blast.vms, fence.blast.share) == (1, 2, 0.5)
    assert (fence.not_before < fence.expires_at, fence.max_runtime_s) == (True, 10.0)
    assert (fence.supersedes, fence.on_timeout) == ("", "page")
    assert restore(folding.state.document(), folding.rules.schema).text() == folding.state.text()


MOVE: dict[str, object] = {"live_migrate": {"target": "$root.vm"}}
ONE_SOURCE = [(at, one.model_copy(update={"source": "peer:1", "attrs": {}})) for at, one in down()]


def migrated(*rows: Row, **more: str) -> list[Output]:
    folding = engine(
        replace(rules(MOVE, **more), knobs=rule_set(source_cap=90.0).knobs),
        cloud(),
        ticks="recorded",
    )
    return feed(folding, ticking([*ONE_SOURCE, *rows], 3.0))


def test_one_source_is_enough_for_a_vm_to_leave_while_it_runs() -> None:
    assert actions(migrated()) == [("live_migrate", vm) for vm in VMS]
    folding = engine(
        replace(rules({"fence": {}}), knobs=rule_set(source_cap=90.0).knobs),
        cloud(),
        ticks="recorded",
    )
    assert actions(feed(folding, ticking(ONE_SOURCE, 3.0))) == []


def command(name: str, target: str) -> Command:
    return Command.model_validate({"command": name, "target": target, "by": "operator:1"})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param((0.0, command("hold", "pod-1")), "domain_hold", id="the domain is held"),
        pytest.param((0.0, command("maintenance_start", VMS[0])), "maintenance", id="worked on"),
    ],
)
def test_what_else_speaks_against_a_move_speaks_against_a_live_one(row: Row, reason: str) -> None:
    told = migrated(row)
    assert reason in reasons(told)
    assert ("live_migrate", VMS[0]) not in actions(told)


def test_a_live_move_waits_for_its_hold() -> None:
    told = [one for one in migrated(hold="2.5s") if isinstance(one, Decision)]
    assert [one.reason for one in told if one.verdict == "wait"] == ["hold"]


def test_a_move_begins_no_more_than_its_budget_has_room_for() -> None:
    given = {"kind": "policy", "name": "p", "cause": "*", "confidence": ">= 0.9", "do": [MOVE]}
    budget = {"max": {"actions": 1, "per": "1h"}}
    made = rule_set(policies=[Policy.model_validate({**given, "guard": budget})])
    told = feed(engine(made, cloud(), ticks="recorded"), ticking(down(), 3.0))
    assert actions(told) == [("live_migrate", VMS[0])]
