"""What a sure incident explains is granted to later looks, until news could overturn it."""

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from correlator import inference
from correlator.domain import Domain
from correlator.profiles import Group, Profile, heaviest_onset
from correlator.standing import Settled, Standing
from correlator.state import SymptomKey
from correlator.weighing import Look
from schemas.inputs import Tick, TopologyDelta
from tests.worlds import (
    SECOND_US,
    SIGNATURES,
    Row,
    cloud,
    engine,
    event,
    feed,
    incidents,
    rule_set,
    run,
    signature,
)

HOST = "host:r0h0"


def dead_host(host: str = HOST, second: float = 0.0, vms: int = 4) -> list[Row]:
    """Return all that a dead host shows."""
    name = host.removeprefix("host:")
    return [
        (second, event(host, "host.down")),
        *((second, event(f"vm:{name}v{v}", "vm.down")) for v in range(vms)),
        *((second, event(f"app:{name}v{v}", "app.down")) for v in range(vms)),
    ]


def named(rows: list[Row], racks: int = 1, hosts: int = 2) -> dict[str, list[str]]:
    """Return the roots that each incident named, oldest first, by its id."""
    told = incidents(run(engine(edges=cloud(racks, hosts, vms=4)), rows))
    found: dict[str, list[str]] = {}
    for one in told:
        roots = found.setdefault(one.incident_id, [])
        if roots[-1:] != [one.causes[0].entity]:
            roots.append(one.causes[0].entity)
    return found


def test_what_a_sure_cause_explains_joins_its_incident() -> None:
    late: list[Row] = [(3, event("app:r0h0v3", "app.down"))]
    assert list(named([*dead_host()[:-1], *late]).values()) == [[HOST]]


def test_what_a_sure_cause_does_not_explain_is_a_fault_of_its_own() -> None:
    rows = [*dead_host(), (3, event("vm:r0h1v0", "vm.down")), (3, event("app:r0h1v0", "app.down"))]
    assert sorted(named(rows).values()) == [[HOST], ["vm:r0h1v0"]]


def test_news_folds_sure_hosts_into_their_rack() -> None:
    rack = signature(
        "rack-fault",
        "rack",
        ("host.down", "host", 0.9),
        ("vm.down", "host.vm", 0.9),
        ("app.down", "host.vm.app", 0.9),
    )
    rules = rule_set([rack, *SIGNATURES[1:]])
    rows = [*dead_host(), *dead_host("host:r0h1", 1.5), *dead_host("host:r0h2", 1.5)]
    told = incidents(run(engine(rules, cloud(1, 3, vms=4)), rows))
    assert next(one.causes[0].entity for one in told) == HOST
    assert told[-1].causes[0].entity == "rack:r0"


def test_a_granted_cause_is_weighed_by_no_later_look(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    known = inference.component

    def component(look: Look, start: SymptomKey) -> inference.Component:
        found = known(look, start)
        sizes.append(len(found.symptoms))
        return found

    monkeypatch.setattr(inference, "component", component)
    folding = engine(edges=cloud(1, 2, vms=4))
    feed(folding, [*dead_host(), (1, Tick())])
    assert sizes == [9]
    feed(folding, [(2, event("nic:r0h1/a", "nic.down"))], start=100)
    assert sizes == [9, 1]


def test_an_edit_of_the_topology_near_a_cause_makes_it_doubtful() -> None:
    folding = engine(edges=cloud(1, 2, vms=4))
    feed(folding, [*dead_host(), (1, Tick())])
    (cause,) = folding.state.incidents.values()
    far = {"op": "add_node", "node": "vm:r9h9v9", "source": "collector:c"}
    feed(folding, [(1.1, TopologyDelta.model_validate(far))], start=100)
    assert cause.granted > 0
    near = {"op": "remove_edge", "from": "vm:r0h0v0", "relation": "hosted_by", "to": HOST}
    feed(folding, [(1.2, TopologyDelta.model_validate(near))], start=101)
    assert cause.granted == 0


def test_what_a_settled_incident_holds_is_not_free_until_it_is_doubted() -> None:
    standing = Standing()
    keys = [("app.down", f"app:{n}") for n in range(3)]
    for key in keys:
        standing.add(key, (), stands=True)
    assert standing.free_of(dict.fromkeys(keys)) is None
    standing.own(keys[0], None, "incident")
    standing.settle("incident", Settled((0, HOST), 0, 0, 9.0))
    standing.own(keys[1], None, "incident")
    assert standing.free_of(dict.fromkeys(keys)) == [keys[2]]
    standing.settle("incident", None)
    assert standing.free == set(keys)
    standing.remove(keys[0], "incident")
    assert standing.free == set(keys[1:])


SEEN = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 50)), max_size=40)


@given(SEEN)
def test_a_profile_kept_up_to_date_is_the_profile_made_anew(
    seen: list[tuple[int, int, int]],
) -> None:
    kept, last = Profile((0, HOST), {}, 1), dict[tuple[str, str], tuple[Group, int, bool]]()
    for number, cell, first_us in seen:
        key, group = ("app.down", f"app:{number}"), (cell, "app", 1e-3)
        kept.take([key])
        last.pop(key, None)
        if cell:
            kept.put([(key, group, first_us, first_us % 2 == 0)])
            last[key] = group, first_us, first_us % 2 == 0
    anew = Profile((0, HOST), {}, 1)
    anew.put((key, *last[key]) for key in sorted(last))
    assert (kept.entries, kept.times) == (anew.entries, anew.times)
    assert +Counter(kept.standing) == +Counter(anew.standing)


def test_the_heaviest_onset_is_the_last_of_equals() -> None:
    within_us = 2 * SECOND_US
    turns = [(second * SECOND_US, within_us, 1.0) for second in (0, 10, 11)]
    assert heaviest_onset(turns, within_us) == 10 * SECOND_US
    assert heaviest_onset(turns[:1], within_us) == 0


def test_faults_that_a_crowd_spares_still_explain_what_it_leaves() -> None:
    hosts = 20
    rows = [row for h in range(hosts) for row in dead_host(f"host:r0h{h}", 0.0)[1:]]
    other: list[Row] = [(0, event("nic:r0h0/a", "nic.down"))]
    told = incidents(run(engine(edges=cloud(1, hosts, vms=4)), rows + other))
    assert {one.causes[0].entity for one in told} == {"pool:p", "nic:r0h0/a"}


def test_what_stood_before_a_fault_began_makes_nobody_doubt_its_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = dead_host()[1:]
    later = [row for h in range(1, 8) for row in dead_host(f"host:r0h{h}", 6.5)[1:]]
    doubted: list[str] = []
    known = Domain.unsettle

    def unsettle(domain: Domain, names: Iterable[str]) -> None:
        doubted.extend(named := list(names))
        known(domain, named)

    monkeypatch.setattr(Domain, "unsettle", unsettle)
    folding = engine(edges=cloud(1, 8, vms=4))
    told = incidents(feed(folding, [*rows, (1, Tick()), *later, (8, Tick()), (30, Tick())]))
    assert [one.causes[0].entity for one in told[:1]] == [HOST]
    assert {one.causes[0].entity for one in told} == {HOST, "pool:p"}
    assert doubted == []
