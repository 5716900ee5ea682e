"""Each guard stops something that would leave without it: switched off, the fence goes out."""

from dataclasses import replace

import pytest

from correlator import guards, targets
from correlator.engine import Engine
from correlator.rules.ruleset import SymptomSpec
from correlator.rules.settings import Effective, effective
from schemas.inputs import Command, Result, Tick
from schemas.outputs import Action, Decision, Output
from schemas.rules import Limits, Policy, Settings
from tests.worlds import SYMPTOMS, Row, cloud, engine, event, feed, rule_set

HOST, NEIGHBOUR = "host:r0h0", "host:r0h1"


def dead(host: str = HOST, second: float = 0.0, attrs: dict[str, str] | None = None) -> list[Row]:
    """Return what independent observers say of a dead host."""
    name = host.removeprefix("host:")
    planes = [attrs or {"plane": plane} for plane in ("mgmt", "storage")]
    seen: list[Row] = [
        (second, event(host, "host.down", source=f"peer:{n}", attrs=given))
        for n in range(2)
        for given in planes
    ]
    parts = [(f"vm:{name}v0", "vm.down"), (f"vm:{name}v1", "vm.down")]
    parts += [(f"app:{name}v0", "app.down"), (f"app:{name}v1", "app.down")]
    return seen + [
        (second, event(entity, signal, source=f"watch:{entity}")) for entity, signal in parts
    ]


def command(second: float, name: str, target: str) -> Row:
    given = {"command": name, "target": target, "by": "operator:1", "reason": "test"}
    return second, Command.model_validate(given)


def said(rows: list[Row], end: float = 6.0, more: dict[str, object] | None = None) -> list[Output]:
    """Return what an engine says of a live log, ticks ten times a second."""
    policy = {"kind": "policy", "name": "p", "cause": "*", "confidence": ">= 0.9", "hold": "1s"}
    steps: list[dict[str, object]] = [{"quarantine": {}}, {"fence": {}}]
    given = Policy.model_validate({**policy, "do": steps, **(more or {})})
    folding: Engine = engine(
        rule_set(policies=[given], symptoms=SYMPTOMS, source_cap=90.0),
        cloud(racks=2),
        ticks="recorded",
    )
    ticks: list[Row] = [(n / 10, Tick()) for n in range(1, round(end * 10) + 1)]
    return feed(folding, sorted([*rows, *ticks], key=lambda row: row[0]))


def fenced(outputs: list[Output]) -> list[str]:
    return [one.target for one in outputs if isinstance(one, Action) and one.verb == "fence"]


def codes(outputs: list[Output]) -> set[str]:
    return {one.reason for one in outputs if isinstance(one, Decision)}


ONE_SOURCE = [(at, given.model_copy(update={"source": "peer:1"})) for at, given in dead()]
ON_THE_HOST = [
    (at, given.model_copy(update={"source": f"vm:r0h0v{n % 2}/agent"}))
    for n, (at, given) in enumerate(dead())
]
ONE_PLANE = dead(attrs={"plane": "mgmt"})
TOGETHER = [*dead(), *dead(NEIGHBOUR, 0.5)]
SPEAKS = [*dead(), (0.8, event(HOST, "host.down", "cleared", source=f"watch:{HOST}"))]
GAP: list[Row] = [*dead(), (60.0, Tick()), (60.1, Tick())]
WORKED_ON = [*dead(), command(0.5, "maintenance_start", HOST)]
THREE_VMS = {"guard": {"only_if": "count(vm) >= 3"}}
MAX = {"guard": {"max": {"actions": 1, "per": "1h"}}}
SHARE = {"guard": {"stop_if": {"roots": "host", "share": "20%", "within": "10m"}}}

CASES = [
    pytest.param(guards.unsure, dead(), {"confidence": ">= 0.9999999999"}, id="confidence"),
    pytest.param(targets.maintenance, WORKED_ON, {}, id="maintenance"),
    pytest.param(
        guards.structure, dead(), {"guard": {"only_if": "count(vm) >= 3"}}, id="structure"
    ),
    pytest.param(guards.fleet_share, dead(), SHARE, id="share of the fleet"),
    pytest.param(guards.budget, dead(), MAX, id="budget"),
    pytest.param(guards.held, [*dead(), command(0.5, "hold", "pod-1")], {}, id="hold"),
    pytest.param(guards.one_witness, ONE_SOURCE, {}, id="one source"),
    pytest.param(guards.one_witness, ON_THE_HOST, {}, id="observers on the host itself"),
    pytest.param(guards.one_plane, ONE_PLANE, {}, id="one plane"),
    pytest.param(guards.speaks_again, SPEAKS, {}, id="the host speaks again"),
    pytest.param(guards.failure_group, TOGETHER, {}, id="two of a rack together"),
]


@pytest.mark.parametrize(("guard", "rows", "policy"), CASES)
def test_a_guard_stops_what_would_leave_without_it(
    guard: guards.PlanGuard | guards.StepGuard | guards.TargetGuard,
    rows: list[Row],
    policy: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert fenced(said(rows, more=policy)) == []
    # A root that speaks again has also fewer witnesses left, and one that shares its trouble.
    shares = guard in (guards.speaks_again, guards.failure_group)
    also = (guards.one_witness, guards.one_plane) if shares else ()
    for name in ("PLAN_GUARDS", "DESTRUCTIVE_GUARDS", "TARGET_GUARDS"):
        kept = tuple(one for one in getattr(guards, name) if one not in (guard, *also))
        monkeypatch.setattr(guards, name, kept)
    assert HOST in fenced(said(rows, more=policy))


def test_without_a_reason_against_it_the_fence_leaves() -> None:
    outputs = said(dead())
    assert fenced(outputs) == [HOST]
    assert "hold" in codes(outputs)


def test_a_hard_fact_stands_in_for_no_second_plane() -> None:
    hard = [
        SymptomSpec("host.down", ("host.down",), spurious=1e-4, hard=True)
        if one.name == "host.down"
        else one
        for one in SYMPTOMS
    ]
    policy = {"kind": "policy", "name": "p", "cause": "*", "confidence": ">= 0.9"}
    rules = rule_set(
        policies=[Policy.model_validate({**policy, "do": [{"fence": {}}]})],
        symptoms=hard,
        source_cap=90.0,
    )
    folding = engine(rules, cloud(racks=2), ticks="recorded")
    ticks: list[Row] = [(n / 10, Tick()) for n in range(1, 40)]
    outputs = feed(folding, sorted([*ONE_PLANE, *ticks], key=lambda row: row[0]))
    assert fenced(outputs) == []
    assert "one_plane" in codes(outputs)


TWO_RACKS = [*dead(), *dead("host:r1h0", 0.5)]


def test_hosts_of_different_racks_are_two_faults_and_fenced_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs = said(TWO_RACKS)
    assert fenced(outputs) == [HOST]
    assert "fence_running" in codes(outputs)
    assert "group_hold" not in codes(outputs)
    kept = tuple(one for one in guards.DESTRUCTIVE_GUARDS if one is not guards.one_at_a_time)
    monkeypatch.setattr(guards, "DESTRUCTIVE_GUARDS", kept)
    assert sorted(fenced(said(TWO_RACKS))) == [HOST, "host:r1h0"]


def test_a_shared_doubt_that_lasts_calls_a_person_once() -> None:
    outputs = said(TOGETHER, end=130.0)
    pages = [one.target for one in outputs if isinstance(one, Action) and one.verb == "page"]
    assert sorted(pages) == [HOST, NEIGHBOUR]
    assert fenced(outputs) == []


def test_nothing_leaves_within_a_gap() -> None:
    outputs = said(GAP, end=0.9)
    assert fenced(outputs) == []
    assert "stream_gap" in codes(outputs)


STOP = SymptomSpec("user.vm.stop", ("user.vm.stop",), spurious=1e-4)
VMS = ["vm:r0h0v0", "vm:r0h0v1", "vm:r0h0v2"]


def recovered(
    settings: list[dict[str, object]],
    rows: list[Row],
    answers: int = 9,
    limits: dict[str, object] | None = None,
) -> list[tuple[str, ...]]:
    """Return the evacuations that left at once, after each answer, of a host of three VMs."""
    steps = [{"fence": {}}, {"evacuate_vm": {"target": "$root.vm", "needs": "fence.confirmed"}}]
    policy = {"kind": "policy", "name": "p", "cause": "*", "confidence": ">= 0.9", "do": steps}
    rules = replace(
        rule_set(policies=[Policy.model_validate(policy)], symptoms=(*SYMPTOMS, STOP)),
        settings=tuple(Settings.model_validate({"kind": "settings", **one}) for one in settings),
        limits=Limits.model_validate(limits or {}),
    )
    folding = engine(rules, cloud(vms=3), ticks="recorded")
    ticks: list[Row] = [(n / 10, Tick()) for n in range(1, 30)]
    told = feed(folding, sorted([*dead(), *rows, *ticks], key=lambda row: row[0]))
    rounds: list[tuple[str, ...]] = []
    for number in range(answers):
        sent = [one for one in told if isinstance(one, Action) and one.verb != "page"]
        if not sent:
            break
        rounds.append(tuple(one.target for one in sent if one.verb == "evacuate_vm"))
        results: list[Row] = [(3.0 + number, confirmed(one)) for one in sent]
        told = feed(folding, results, folding.state.offset + 1)
    return [targets for targets in rounds if targets]


def confirmed(action: Action) -> Result:
    return Result(
        action_id=action.action_id,
        idempotency_key=action.idempotency_key,
        actuator="actuator:1",
        state="CONFIRMED",
        proof={"method": "bmc_off", "observed_state": "OFF"},
    )


def test_workloads_come_in_the_turn_that_their_site_gave_them() -> None:
    first: dict[str, object] = {"name": "gold", "entities": ["vm:*v2"], "sla": "SAL1"}
    last: dict[str, object] = {"name": "later", "entities": ["vm:*v0"], "priority": 9}
    assert recovered([], []) == [tuple(VMS)]
    assert recovered([first, last], []) == [(VMS[2],), (VMS[1],), (VMS[0],)]


@pytest.mark.parametrize(
    ("guard", "settings", "rows"),
    [
        pytest.param(
            targets.opted_out,
            [{"name": "own", "entities": [VMS[1]], "recover": False}],
            [],
            id="its owner has opted out",
        ),
        pytest.param(
            targets.stopped_by_user,
            [],
            [(0.2, event(VMS[1], "user.vm.stop", source="user:1"))],
            id="a user has stopped it",
        ),
        pytest.param(
            targets.maintenance,
            [],
            [command(0.2, "maintenance_start", VMS[1])],
            id="it is worked on",
        ),
    ],
)
def test_a_workload_may_be_left_alone(
    guard: guards.TargetGuard,
    settings: list[dict[str, object]],
    rows: list[Row],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert recovered(settings, rows) == [(VMS[0], VMS[2])]
    kept = tuple(one for one in guards.TARGET_GUARDS if one is not guard)
    monkeypatch.setattr(guards, "TARGET_GUARDS", kept)
    assert recovered(settings, rows) == [tuple(VMS)]


def test_no_more_workloads_than_may_be_worked_on_at_once() -> None:
    assert recovered([], [], limits={"workloads_running_max": 2})[0] == tuple(VMS[:2])


def test_no_more_workloads_come_to_a_host_at_once_than_its_site_allows() -> None:
    assert recovered([], [], limits={"workloads_per_host_max": 1})[0] == tuple(VMS[:1])


def test_the_last_document_that_speaks_of_an_entity_wins_key_by_key() -> None:
    written = [
        {"name": "all", "entities": ["vm:*"], "sla": "SAL3", "recover": False},
        {"name": "gold", "entities": ["vm:db-*"], "sla": "SAL1", "recover": True},
    ]
    settings = [Settings.model_validate({"kind": "settings", **one}) for one in written]
    web = Effective("vm:web", sla="SAL3", priority=9, recover=False, said_by=("all",))
    assert effective(settings, "vm:web") == web
    assert effective(settings, "vm:db-1").priority == 1
    assert effective(settings, "vm:db-1").recover
    assert effective(settings, "host:1").said_by == ()
