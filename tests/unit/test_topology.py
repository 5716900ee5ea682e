"""The dependency graph under construction, edits and cuts."""

from typing import Any

import networkx as nx
import pytest

from correlator import topology as topology_module
from correlator.topology import (
    Edge,
    Topology,
    build,
    from_document,
    short_form,
)
from schemas.inputs import Event
from schemas.topology import HealingRule, KindRule, RelationRule, TopologySchema

SCHEMA = TopologySchema(
    kinds={"vm": KindRule(), "host": KindRule(), "lag": KindRule(redundant=True)},
    relations={"hosted_by": RelationRule(), "watches": RelationRule(carries=False)},
    healing=[HealingRule(kind="vm", attr="host", relation="hosted_by", to="host")],
)


def event(
    entity: str,
    signal: str = "s",
    source: str | None = None,
    attrs: dict[str, Any] | None = None,
) -> Event:
    return Event(entity=entity, signal=signal, source=source, attrs=attrs or {})


@pytest.mark.parametrize(
    ("edges", "cut"),
    [
        pytest.param(
            [("a:1", "serves", "a:2"), ("a:2", "hosted_by", "a:1")],
            [("a:1", "serves", "a:2")],
            id="the weaker relation of two goes",
        ),
        pytest.param(
            [("a:1", "hosted_by", "a:2"), ("a:2", "runs_on", "a:3"), ("a:3", "guesses", "a:1")],
            [("a:3", "guesses", "a:1")],
            id="an unknown relation is the weakest",
        ),
        pytest.param(
            [("a:1", "hosted_by", "a:2"), ("a:2", "observed_by", "a:1")],
            [],
            id="an edge that carries no failure closes no cycle",
        ),
        pytest.param(
            [
                ("a:1", "serves", "a:2"),
                ("a:2", "hosted_by", "a:1"),
                ("b:1", "backs", "b:2"),
                ("b:2", "runs_on", "b:1"),
            ],
            [("a:1", "serves", "a:2"), ("b:1", "backs", "b:2")],
            id="every cycle is cut",
        ),
    ],
)
def test_a_cycle_is_cut_at_its_weakest_relation_and_reported(
    edges: list[Edge], cut: list[Edge]
) -> None:
    topology, report = build([], edges)
    assert report.cut_edges == cut
    assert sorted(topology.edges()) == sorted(set(edges) - set(cut))
    assert [line for line in report.lines() if "cycle" in line] == [
        f"cycle cut at {a} -{r}-> {b}" for a, r, b in cut
    ]


def test_a_graph_of_too_many_cycles_keeps_the_edges_of_one_direction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topology_module, "CUTS_MAX", 1)
    ring = [(f"a:{n}", "serves", f"a:{(n + m) % 5}") for n in range(5) for m in (1, 2)]
    topology, report = build([], ring)
    assert set(report.cut_edges) | set(topology.edges()) == set(ring)
    assert nx.is_directed_acyclic_graph(topology.graph())


def test_an_inventory_that_lists_every_cable_in_both_directions_is_mended_at_once() -> None:
    pairs = [(f"a:{n:05}", f"a:{n + 1:05}") for n in range(3000)]
    both = [(a, "x", b) for a, b in pairs] + [(b, "x", a) for a, b in pairs]
    topology, report = build([], both)
    assert sorted(topology.edges()) == sorted((a, "x", b) for a, b in pairs)
    assert len(report.cut_edges) == 3000


def test_a_diamond_is_no_cycle() -> None:
    topology, report = build([], [("a:4", "x", "a:2"), ("a:4", "x", "a:3"), ("a:3", "x", "a:1")])
    assert topology.add_edge("a:2", "x", "a:1")
    assert topology.add_edge("a:5", "x", "a:4")
    assert topology.add_edge("a:7", "x", "a:6")
    assert topology.add_edge("a:6", "x", "a:5")
    assert not topology.add_edge("a:1", "x", "a:5")
    assert report.cut_edges == []


def test_unknown_kinds_and_relations_are_counted_and_used() -> None:
    topology, report = build(
        [("lift:1", None), ("lift:2", True)], [("vm:1", "rides", "lift:1")], SCHEMA
    )
    assert list(topology.dependencies("vm:1")) == ["lift:1"]
    assert report.lines() == [
        "unknown kind lift: 2 nodes, used",
        "unknown relation rides: 1 edges, taken to carry failure",
    ]
    assert (report.nodes, report.edges) == (3, 1)


def test_a_redundancy_group_is_one_by_its_kind_unless_it_says_otherwise() -> None:
    topology, _ = build([("lag:1", None), ("lag:2", False), ("vnf:1", True)], [], SCHEMA)
    flags = [node in topology.redundant for node in ("lag:1", "lag:2", "vnf:1", "vm:9")]
    assert flags == [True, False, True, False]


@pytest.fixture
def placed() -> Topology:
    edges = [
        ("vm:1", "hosted_by", "host:1"),
        ("vm:1", "attached_to", "host:9"),
        ("vm:1", "watches", "vm:2"),
        ("vm:2", "hosted_by", "host:2"),
        ("host:1", "runs_on", "rack:1"),
    ]
    return build([], edges, SCHEMA)[0]


def test_a_move_replaces_the_edge_of_its_relation_and_target_kind(placed: Topology) -> None:
    assert placed.move_edge("vm:1", "hosted_by", "host:2") == [
        ("vm:1", "hosted_by", "host:1"),
        ("vm:1", "hosted_by", "host:2"),
    ]
    assert placed.move_edge("vm:1", "hosted_by", "host:2") == []
    assert list(placed.dependencies("vm:1")) == ["host:2", "host:9"]
    assert (placed.down["host:1"], placed.down["host:2"]) == ((), ("vm:1", "vm:2"))


def test_a_move_that_would_close_a_cycle_leaves_everything_as_it_was(placed: Topology) -> None:
    before = placed.document()
    assert placed.move_edge("host:1", "runs_on", "rack:1") == []
    placed.add_edge("rack:2", "serves", "vm:1")
    assert placed.move_edge("host:1", "runs_on", "rack:2") == []
    placed.remove_node("rack:2")
    assert placed.document() == before


def test_a_move_drops_what_is_left_over_of_an_ambiguous_inventory(placed: Topology) -> None:
    placed.add_edge("vm:1", "hosted_by", "host:2")
    assert placed.move_edge("vm:1", "hosted_by", "host:2") == [
        ("vm:1", "hosted_by", "host:1"),
        ("vm:1", "hosted_by", "host:2"),
    ]


def test_an_edge_is_added_once_and_never_against_the_others(placed: Topology) -> None:
    assert not placed.add_edge("vm:1", "hosted_by", "host:1")
    assert not placed.add_edge("rack:1", "serves", "vm:1")
    assert not placed.add_edge("vm:1", "serves", "vm:1")
    assert placed.add_edge("rack:1", "watches", "vm:1")
    assert not placed.remove_edge("vm:1", "hosted_by", "host:2")
    assert placed.remove_edge("rack:1", "watches", "vm:1")
    assert placed.silent_down["vm:1"] == set()


def test_a_pair_joined_twice_stays_joined_until_both_edges_are_gone(placed: Topology) -> None:
    placed.add_edge("vm:1", "serves", "host:1")
    placed.remove_edge("vm:1", "hosted_by", "host:1")
    assert "vm:1" in placed.down["host:1"]
    placed.remove_edge("vm:1", "serves", "host:1")
    assert "vm:1" not in placed.down["host:1"]


def test_a_node_goes_with_all_its_edges(placed: Topology) -> None:
    assert placed.remove_node("vm:2")
    assert not placed.remove_node("vm:2")
    assert "vm:2" not in placed
    assert sorted(placed.edges()) == [
        ("host:1", "runs_on", "rack:1"),
        ("vm:1", "attached_to", "host:9"),
        ("vm:1", "hosted_by", "host:1"),
    ]
    assert placed.kind_counts["vm"] == 1


def test_a_node_is_added_once_and_may_become_redundant(placed: Topology) -> None:
    assert placed.add_node("vm:3")
    assert not placed.add_node("vm:3")
    assert placed.add_node("vm:3", redundant=True)
    assert not placed.add_node("vm:3", redundant=True)


def test_a_neighbourhood_has_its_radius_and_its_bound(placed: Topology) -> None:
    assert placed.neighbourhood(["rack:1", "no:1"], 1, 100) == {"rack:1", "host:1"}
    assert placed.neighbourhood(["rack:1"], 2, 100) == {"rack:1", "host:1", "vm:1"}
    assert placed.neighbourhood(["rack:1"], 2, 2) is None


@pytest.mark.parametrize(
    ("attrs", "parents"),
    [
        pytest.param({"host": "h2"}, ["host:h2"], id="a bare name"),
        pytest.param({"host": "host:h2"}, ["host:h2"], id="an entity"),
        pytest.param({"host": "host"}, ["host:host"], id="a name like its kind"),
        pytest.param({"host": ""}, [], id="nothing"),
        pytest.param({"host": 7}, [], id="no text"),
        pytest.param({"host": "h" * 600}, [], id="too long for an entity"),
        pytest.param({"rack": "r1"}, [], id="another attribute"),
    ],
)
def test_an_event_heals_by_the_attribute_the_schema_names(
    placed: Topology, attrs: dict[str, object], parents: list[str]
) -> None:
    healed = [("vm:1", "hosted_by", parent) for parent in parents]
    assert placed.healing_parents(event("vm:1", attrs=attrs)) == healed
    assert placed.healing_parents(event("app:1", attrs=attrs)) == []


@pytest.mark.parametrize(
    ("signal", "source", "attrs", "parents"),
    [
        pytest.param("vm.event", "collector:h2/libvirt", {}, ["host:h2"], id="only it can tell"),
        pytest.param("vm.event", "collector:h2", {"host": "h3"}, ["host:h3"], id="named first"),
        pytest.param("vm.hb.lost", "collector:h2/probe", {}, [], id="a probe may be anywhere"),
        pytest.param("vm.event", "collector:none", {}, [], id="a teller that runs nowhere"),
        pytest.param("vm.event", "host:h2", {}, [], id="a teller of another kind"),
        pytest.param("vm.event", None, {}, [], id="nobody says so"),
    ],
)
def test_who_alone_can_tell_of_a_guest_is_where_it_is(
    signal: str, source: str | None, attrs: dict[str, object], parents: list[str]
) -> None:
    told = HealingRule(
        kind="vm", by="collector", signals=("vm.event",), relation="hosted_by", to="host"
    )
    schema = TopologySchema(healing=[*SCHEMA.healing, told])
    placed = build([], [("collector:h2", "runs_on", "host:h2")], schema)[0]
    healed = [("vm:1", "hosted_by", parent) for parent in parents]
    given = event("vm:1", signal=signal, source=source, attrs=attrs)
    assert placed.healing_parents(given) == healed


def test_a_document_and_a_copy_give_the_same_graph(placed: Topology) -> None:
    placed.add_node("vnf:1", redundant=True)
    twin = placed.copy()
    placed.add_edge("app:1", "runs_on", "vm:1")
    again = from_document(placed.document(), SCHEMA)
    assert again.document() == placed.document()
    assert (again.down, again.silent_down) == (placed.down, placed.silent_down)
    assert "app:1" not in twin
    assert "vnf:1" in twin.redundant


def test_a_networkx_graph_holds_kinds_and_relations(placed: Topology) -> None:
    graph = placed.graph()
    assert graph.nodes["vm:1"] == {"kind": "vm", "redundant": False}
    assert graph.edges["vm:1", "host:1"] == {"relation": "hosted_by"}
    assert set(graph) == set(placed)
    assert len(placed) == len(graph)


def test_the_short_form_nests_hosts_machines_and_applications() -> None:
    assert short_form({"h1": {"v1": ["a1"], "v2": []}, "h2": "?"}) == [
        ("vm:v1", "hosted_by", "host:h1"),
        ("vm:v2", "hosted_by", "host:h1"),
        ("app:a1", "runs_on", "vm:v1"),
    ]
