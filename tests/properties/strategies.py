"""Logs for properties: faults with what they show, and inputs of every type with odd values."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from schemas.inputs import (
    Command,
    Event,
    Input,
    Level,
    OwnerClaim,
    Pulse,
    Result,
    Tick,
    TopologyDelta,
    Verdict,
)
from tests.worlds import RULES, Row, at, cloud, event, rule_set, signature

ENTITIES = sorted({end for a, _, b in cloud() for end in (a, b)})
OTHER_RULES = rule_set(
    [signature("app-dead", "app", ("app.down", "self", 0.9))],
    [spec for spec in RULES.symptoms.values() if spec.name in ("app.down", "nic.flapping")],
    name="other",
)
LIBRARY = (RULES, OTHER_RULES)

# ---- faults, each with some of what it shows -----------------------------------------------

FAULTS: dict[str, tuple[tuple[str, str], ...]] = {
    "host:r0h0": (
        ("host:r0h0", "host.down"),
        ("vm:r0h0v0", "vm.down"),
        ("vm:r0h0v1", "vm.down"),
        ("app:r0h0v0", "app.down"),
        ("app:r0h0v1", "app.down"),
    ),
    "vm:r0h1v0": (("vm:r0h1v0", "vm.down"), ("app:r0h1v0", "app.down")),
    "app:r0h1v1": (("app:r0h1v1", "app.down"),),
    "nic:r0h1/a": (("nic:r0h1/a", "nic.down"),),
}


@st.composite
def storms(draw: st.DrawFn, clears: bool = True) -> list[Row]:  # noqa: FBT001, FBT002
    """Return the events of some faults, each symptom up to 1 s late, some of them cleared.

    Faults begin together or well apart: where two are as far from each other as a window is wide,
    a moment decides whether they are one, and order with it.
    """
    rows: list[Row] = []
    for number, root in enumerate(draw(st.lists(st.sampled_from(sorted(FAULTS)), unique=True))):
        start = 20 * draw(st.integers(0, 2))
        for entity, signal in draw(
            st.lists(st.sampled_from(FAULTS[root]), min_size=1, unique=True)
        ):
            second = start + draw(st.integers(0, 10)) / 10
            name = f"{number}/{entity}/{signal}"
            rows.append((second, event(entity, signal, event_id=name, at=at(second))))
            if clears and draw(st.booleans()):
                second += draw(st.integers(1, 100)) / 10
                cleared = event(entity, signal, "cleared", event_id=f"{name}/c", at=at(second))
                rows.append((second, cleared))
    return sorted(rows, key=lambda row: row[0])


# ---- inputs of every type ------------------------------------------------------------------

entities = st.sampled_from(
    [*ENTITIES, "nowhere:1", "vm:new", "host:new", "x:y:z", "a:" + "b" * 510]
)
signals = st.sampled_from(
    ["host.down", "vm.down", "app.down", "nic.down", "app.beat", "collector.lost", "none"]
)
attr_values = st.one_of(
    st.none(),
    st.integers(-(10**40), 10**40),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.sampled_from(["r0h1", "host:r0h1", "host", "", "h" * 600]),
    st.lists(st.integers(), max_size=2),
)
attributes = st.dictionaries(st.sampled_from(["host", "change", "case"]), attr_values, max_size=2)
moments = st.one_of(
    st.none(),
    st.integers(-100, 100).map(at),
    st.sampled_from([datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]),
)
ids = st.one_of(st.none(), st.sampled_from(["e1", "e2", "e3"]))


def fields(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return documents whose fields are drawn each from its own strategy."""
    return st.fixed_dictionaries(more)


events = fields(
    entity=entities,
    signal=signals,
    state=st.sampled_from(["raised", "raised", "cleared", "unknown"]),
    severity=st.sampled_from(["major", "cleared", "?"]),
    event_id=ids,
    at=moments,
    source=st.sampled_from([None, "", "s1", "s2"]),
    attrs=attributes,
).map(Event.model_validate)
facts = fields(entity=entities, signal=signals, since=moments, attrs=attributes)
levels = fields(source=st.sampled_from(["s1", "s2"]), facts=st.lists(facts, max_size=4)).map(
    Level.model_validate
)
pulses = fields(
    collector=st.sampled_from(["collector:c", "collector:d"]),
    seq=st.integers(0, 10**30) | st.integers(0, 3),
    boot_id=st.sampled_from([None, "", "b1", "b2"]),
    host=st.sampled_from([None, "host:r0h0", "host:new"]),
).map(Pulse.model_validate)
relations = st.sampled_from(["hosted_by", "serves", "observed_by", "new_relation", ""])
deltas = st.builds(
    lambda op, node, ends, relation, redundant: TopologyDelta.model_validate(
        {"op": op, "node": node, "relation": relation, "redundant": redundant}
        | {"from": ends[0], "to": ends[1]}
    ),
    st.sampled_from(["add_node", "remove_node", "add_edge", "remove_edge", "move_edge"]),
    st.none() | entities,
    st.tuples(st.none() | entities, st.none() | entities),
    relations,
    st.none() | st.booleans(),
)
targets = st.one_of(
    entities,
    st.sampled_from(["enforce", "approve", "x", ":", "1:2", "é:é", "y" * 2000]),
    st.sampled_from([f"rules:{rules.hash}" for rules in LIBRARY]),
)
commands = fields(
    command=st.sampled_from(
        ["maintenance_start", "maintenance_end", "hold", "release", "set_mode", "activate_rules"]
    ),
    target=targets,
    until=moments,
    expires_at=st.none() | moments,
    reason=st.text(max_size=3),
    command_id=ids,
).map(Command.model_validate)
results = fields(
    action_id=st.just("a"),
    idempotency_key=st.text(max_size=2),
    state=st.sampled_from(["ACCEPTED", "CONFIRMED", "FAILED", "UNKNOWN"]),
).map(Result.model_validate)
claims = fields(owner=st.just("w"), supersedes=st.none() | st.integers(-1, 9)).map(
    OwnerClaim.model_validate
)
verdicts = fields(
    resource=entities,
    state=st.sampled_from(["failed", "working", "unknown"]),
    expires_at=moments,
).map(Verdict.model_validate)
inputs: st.SearchStrategy[Input] = st.one_of(
    events, events, levels, pulses, deltas, commands, results, claims, verdicts, st.just(Tick())
)
steps_of_time = st.one_of(
    st.floats(0, 3), st.floats(0, 3), st.integers(-50, 800), st.sampled_from([1e12, -1e12])
)


@st.composite
def logs(draw: st.DrawFn, max_size: int = 25) -> list[Row]:
    """Return inputs of every type; time mostly goes forward, and sometimes jumps or goes back."""
    second = 0.0
    rows: list[Row] = []
    for given in draw(st.lists(inputs, max_size=max_size)):
        second += draw(steps_of_time)
        rows.append((second, given))
    return rows


def shifted(rows: Sequence[Row], by: dict[int, float]) -> list[Row]:
    """Return rows with some of them later, in the order of their arrival."""
    moved = [(second + by.get(n, 0.0), given) for n, (second, given) in enumerate(rows)]
    return sorted(moved, key=lambda row: row[0])
