"""Topologies of real networks: each file gives a graph, in both of its forms the same."""

from pathlib import Path

import pytest

from correlator.importers import load_topology

NAMES = [
    "Abilene",
    "Cogentco",
    "Colt",
    "Garr201201",
    "Geant2012",
    "GtsCe",
    "Interoute",
    "UsCarrier",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_network_map_becomes_links_that_depend_on_both_ends(shared_data: Path, name: str) -> None:
    topology, report = load_topology(shared_data / "topologies" / f"{name}.graphml")
    links = [node for node in topology if node.startswith("link:")]
    assert links
    assert all(len(list(topology.dependencies(link))) == 2 for link in links)
    assert (report.cut_edges, report.faults) == ([], [])


@pytest.mark.parametrize("name", NAMES)
def test_the_same_map_in_json_has_as_many_nodes(shared_data: Path, name: str) -> None:
    folder = shared_data / "topologies"
    from_json, _ = load_topology(folder / f"{name}.json")
    from_xml, _ = load_topology(folder / f"{name}.graphml")
    switches = {node for node in from_xml if not node.startswith("link:")}
    assert len([node for node in from_json if not node.startswith("link:")]) >= len(switches) * 0.9


def test_a_recorded_site_is_read_without_a_fault(shared_data: Path) -> None:
    topology, report = load_topology(shared_data / "kddi-nfv-learn" / "topology.json")
    assert report.cut_edges == []
    assert len(topology) > 50
