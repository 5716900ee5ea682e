"""Where a workload is brought: one row for each reason for and against a host."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from correlator.placement import Move, Nowhere, Place, View, place
from correlator.rules.settings import Book
from correlator.topology import Edge, Topology, build
from schemas.topology import KindRule, TopologySchema
from tests.unit.test_settings import settings

VM = "vm:a1"
"""On host a, as vm:a2; hosts a and b stand in rack r1, c and d in r2; d is empty."""


def site(more: Iterable[Edge] = ()) -> Topology:
    """Return four hosts in two racks, with a storage path each and two VMs on all but the last."""
    edges: list[Edge] = [("vm:b3", "hosted_by", "host:b"), ("vm:c3", "hosted_by", "host:c")]
    for host, rack in (("a", "r1"), ("b", "r1"), ("c", "r2"), ("d", "r2")):
        edges += [
            (f"host:{host}", "member_of", f"rack:{rack}"),
            (f"host:{host}", "powered_by", f"group:{rack}/power"),
            (f"group:{rack}/power", "member_of", f"power:{rack}/A"),
            (f"group:{rack}/power", "member_of", f"power:{rack}/B"),
            (f"hypervisor:{host}", "runs_on", f"host:{host}"),
            (f"nic:{host}", "runs_on", f"host:{host}"),
            (f"plane:{host}/storage", "attached_to", f"nic:{host}"),
            (f"path:{host}/0", "attached_to", f"plane:{host}/storage"),
            (f"path:{host}/0", "attached_to", "pool:p"),
            (f"group:{host}/storage", "member_of", f"path:{host}/0"),
        ]
        for vm in (f"vm:{host}1", f"vm:{host}2") if host != "d" else ():
            edges += [
                (vm, "hosted_by", f"host:{host}"),
                (vm, "backs", f"group:{host}/storage"),
            ]
    return build([], [*edges, *more], TopologySchema(kinds={"group": KindRule(redundant=True)}))[0]


def view(*documents: dict[str, Any], **more: Any) -> View:  # noqa: ANN401
    return replace(View(site(), Book(settings(*documents))), **more)


def found(view: View, **more: Any) -> str:  # noqa: ANN401
    """Return the destination of VM, or why there is none."""
    got = place(view, Move(VM, **more))
    return got.destination if isinstance(got, Place) else got.text


def on(*entities: str) -> Any:  # noqa: ANN401
    return lambda entity: entity in entities


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(view(), "host:d", id="the emptiest host"),
        pytest.param(
            view(arriving={"host:d": 1}), "host:b", id="where the fewest are on their way"
        ),
        pytest.param(view(failed={"host:d"}), "host:b", id="no root of an incident"),
        pytest.param(view(failed={"hypervisor:d"}), "host:b", id="nor where its hypervisor is one"),
        pytest.param(view(failed={"rack:r2"}), "host:b", id="nor what stands on one"),
        pytest.param(
            view(failed={"power:r2/A"}), "host:d", id="one of two feeds takes no host down"
        ),
        pytest.param(view(failed={"group:r2/power"}), "host:b", id="both feeds do"),
        pytest.param(view(shows=on("host:d")), "host:b", id="no suspect"),
        pytest.param(view(shows=on("path:d/0")), "host:b", id="no host whose way to storage fails"),
        pytest.param(view(failed={"plane:d/storage"}), "host:b", id="nor its storage network"),
        pytest.param(
            view({"entities": "vm:*", "exclude": ["rack:r2"]}), "host:b", id="no excluded domain"
        ),
        pytest.param(
            view({"entities": "vm:*", "exclude": "host:d"}), "host:b", id="no excluded host"
        ),
        pytest.param(
            view({"entities": "host:d", "reserved_for": 2}), "host:b", id="no reserved host"
        ),
        pytest.param(
            view(
                {"entities": "host:d", "reserved_for": 2},
                {"entities": "vm:a1", "sla": "SAL1"},
            ),
            "host:d",
            id="a reserved host for those it is reserved for",
        ),
        pytest.param(
            view({"entities": "host:d", "capacity": {"vms": 0}}), "host:b", id="no full host"
        ),
        pytest.param(
            view(
                {"entities": "host:d", "capacity": {"vms": 1}},
                moving={"vm:a2": ("host:d",)},
                arriving={"host:d": 0},
            ),
            "host:b",
            id="nor one that is being filled",
        ),
        pytest.param(
            view(
                {"entities": "host:*", "capacity": {"vcpus": 10}},
                {"entities": ["vm:a1", "vm:c*"], "vcpus": 4},
                {"entities": "vm:b*", "vcpus": 3},
            ),
            "host:d",
            id="room for its CPUs",
        ),
        pytest.param(
            view(
                {"entities": "host:*", "capacity": {"vcpus": 10}},
                {"entities": "vm:*", "vcpus": 3},
                failed={"host:d"},
            ),
            "of 4 hosts 2 full, 1 in trouble, 1 its own",
            id="no room anywhere",
        ),
        pytest.param(
            view({"entities": ["vm:a1", "vm:c1"], "affinity": "g"}), "host:c", id="with its group"
        ),
        pytest.param(
            view({"entities": ["vm:a1", "vm:a2"], "affinity": "g"}),
            "host:d",
            id="what is left on the source binds nobody",
        ),
        pytest.param(
            view({"entities": ["vm:a1", "vm:a2"], "affinity": "g"}, moving={"vm:a2": ("host:c",)}),
            "host:c",
            id="with what of its group has gone before",
        ),
        pytest.param(
            view({"entities": ["vm:a1", "vm:b1"], "anti_affinity": "g"}, failed={"host:d"}),
            "host:c",
            id="not where one of its group is",
        ),
        pytest.param(
            view(
                {"entities": ["vm:a1", "vm:a2"], "anti_affinity": "g"},
                moving={"vm:a2": ("host:d",)},
            ),
            "host:b",
            id="nor where one of its group is brought",
        ),
        pytest.param(
            view(
                {"entities": ["vm:a1", "vm:b1", "vm:c1"], "anti_affinity": "g"},
                failed={"host:d"},
            ),
            "of 4 hosts 1 in trouble, 1 its own, 2 with one of its group",
            id="nowhere without one of its group",
        ),
        pytest.param(view(failed={"pool:p"}), "its storage pool:p has failed", id="no storage"),
    ],
)
def test_a_workload_is_brought_where_nothing_speaks_against(given: View, expected: str) -> None:
    assert found(given) == expected


def test_a_hot_rack_is_left() -> None:
    assert found(view(failed={"host:d"})) == "host:b"
    assert found(view(failed={"host:d"}), avoid=("rack",)) == "host:c"


def test_where_it_did_not_come_up_it_is_not_tried_again() -> None:
    assert found(view(), tried=("host:d",)) == "host:b"


def test_storage_must_be_reached_where_ways_to_it_are_known() -> None:
    given = view()
    given.topology.remove_edge("path:d/0", "attached_to", "pool:p")
    assert found(given) == "host:b"
    given.topology.remove_edge("path:a/0", "attached_to", "pool:p")
    given.topology.add_edge(VM, "backs", "pool:p")
    assert found(given) == "host:d", "the graph knows no way of its source: it may be anywhere"


@pytest.mark.parametrize(("limit", "most"), [({}, 5), ({"arriving_max": 2}, 2)])
def test_so_many_may_be_on_their_way_to_a_host(limit: dict[str, int], most: int) -> None:
    hosts = ("host:b", "host:c", "host:d")
    free = place(view(arriving=dict.fromkeys(hosts, most - 1), **limit), Move(VM))
    assert isinstance(free, Place)
    full = place(view(arriving=dict.fromkeys(hosts, most), **limit), Move(VM))
    assert isinstance(full, Nowhere)
    assert full.is_busy


def test_what_was_ruled_out_is_told() -> None:
    given = view({"entities": ["vm:a1", "vm:b1"], "anti_affinity": "g"}, failed={"host:d"})
    assert place(given, Move(VM)) == Place("host:c", ("host:a", "host:b"), ("g",))


def test_a_graph_that_knows_only_hosts_forbids_nothing() -> None:
    edges: list[Edge] = [(VM, "hosted_by", "host:a"), ("vm:b1", "hosted_by", "host:b")]
    assert found(View(build([], edges)[0], Book([]))) == "host:b"
