"""Each guard stops something that would leave without it: switched off, the fence goes out."""

import pytest

from correlator import guards
from correlator.engine import Engine
from correlator.rules.ruleset import SymptomSpec
from schemas.inputs import Command, Tick
from schemas.outputs import Action, Decision, Output
from schemas.rules import Policy
from tests.worlds import SYMPTOMS, Row, cloud, engine, event, feed, rule_set

HOST, NEIGHBOUR = "host:r0h0", "host:r0h1"


def dead(host: str = HOST, second: float = 0.0, **more: object) -> list[Row]:
    """Return what independent observers say of a dead host."""
    name = host.removeprefix("host:")
    parts = [(host, "host.down"), (f"vm:{name}v0", "vm.down"), (f"vm:{name}v1", "vm.down")]
    parts += [(f"app:{name}v0", "app.down"), (f"app:{name}v1", "app.down")]
    return [
        (second, event(entity, signal, **{"source": f"watch:{entity}", **more}))
        for entity, signal in parts
    ]


def command(second: float, name: str, target: str) -> Row:
    given = {"command": name, "target": target, "by": "operator:1", "reason": "test"}
    return second, Command.model_validate(given)


def said(rows: list[Row], end: float = 6.0, more: dict[str, object] | None = None) -> list[Output]:
    """Return what an engine says of a live log, ticks ten times a second."""
    policy = {"kind": "policy", "name": "p", "cause": "*", "confidence": ">= 0.9", "hold": "1s"}
    steps = [{"quarantine": {}}, {"fence": {}}]
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
THREE_VMS = {"guard": {"only_if": "count(vm) >= 3"}}
MAX = {"guard": {"max": {"actions": 1, "per": "1h"}}}
SHARE = {"guard": {"stop_if": {"roots": "host", "share": "20%", "within": "10m"}}}

CASES = [
    pytest.param(guards.confidence, dead(), {"confidence": ">= 0.9999999999"}, id="confidence"),
    pytest.param(
        guards.maintenance, [*dead(), command(0.5, "maintenance_start", HOST)], {}, id="maintenance"
    ),
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
    guard: guards.PlanGuard | guards.StepGuard,
    rows: list[Row],
    policy: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert fenced(said(rows, more=policy)) == []
    for name in ("PLAN_GUARDS", "DESTRUCTIVE_GUARDS"):
        kept = tuple(one for one in getattr(guards, name) if one is not guard)
        monkeypatch.setattr(guards, name, kept)
    assert HOST in fenced(said(rows, more=policy))


def test_without_a_reason_against_it_the_fence_leaves() -> None:
    outputs = said(dead())
    assert fenced(outputs) == [HOST]
    assert "hold" in codes(outputs)


def test_a_hard_fact_needs_no_second_plane() -> None:
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
    assert fenced(feed(folding, sorted([*ONE_PLANE, *ticks], key=lambda row: row[0]))) == [HOST]


def test_hosts_of_different_racks_are_two_faults() -> None:
    outputs = said([*dead(), *dead("host:r1h0", 0.5)])
    assert sorted(fenced(outputs)) == [HOST, "host:r1h0"]
    assert "group_hold" not in codes(outputs)


def test_a_shared_doubt_that_lasts_calls_a_person_once() -> None:
    outputs = said(TOGETHER, end=130.0)
    pages = [one.target for one in outputs if isinstance(one, Action) and one.verb == "page"]
    assert sorted(pages) == [HOST, NEIGHBOUR]
    assert fenced(outputs) == []


def test_nothing_leaves_within_a_gap() -> None:
    outputs = said(GAP, end=0.9)
    assert fenced(outputs) == []
    assert "stream_gap" in codes(outputs)
