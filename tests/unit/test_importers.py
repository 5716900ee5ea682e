"""Topology files of every form, and what is odd about them."""

import json
from pathlib import Path

import pytest

from correlator.importers import TopologyError, load_topology
from correlator.topology import Edge
from schemas.topology import KindRule, TopologySchema

GRAPHML = """<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
<key attr.name="kind" attr.type="string" for="node" id="k"/>
<key attr.name="id" attr.type="string" for="edge" id="i"/>
<graph edgedefault="undirected">
<node id="0"/><node id="1"><data key="k">router</data></node><node id="2"/>
<edge source="0" target="1"><data key="i">e7</data></edge>
<edge source="1" target="2"/><edge source="2" target="2"/>
</graph></graphml>"""
NEUTRAL = {
    "nodes": [
        {"id": "h1", "kind": "host", "attrs": {"rack": 1}},
        {"id": "vm:v1"},
        {"id": "bgp:a", "kind": "app", "later": "kept"},
        {"id": "l1", "kind": "lag", "redundant": True},
    ],
    "edges": [
        {"from": "vm:v1", "to": "h1", "relation": "hosted_by"},
        {"from": "bgp:a", "to": "vm:v1"},
        {"from": "h1", "to": "host:h1"},
        {"from": "h1", "to": "elsewhere"},
    ],
}
NEUTRAL_EDGES = [
    ("app:bgp:a", "depends_on", "vm:v1"),
    ("host:h1", "depends_on", "unknown:elsewhere"),
    ("vm:v1", "hosted_by", "host:h1"),
]
YAML = """
nodes: [{id: h1, kind: host}]
edges: [{from: vm:v1, to: h1, relation: hosted_by}]
"""
NODE_LINK = {
    "directed": True,
    "multigraph": False,
    "nodes": [{"id": "v1", "kind": "vm"}, {"id": "h1", "kind": "host", "redundant": False}],
    "links": [{"source": "v1", "target": "h1", "relation": "hosted_by"}],
}
HOSTED = [("vm:v1", "hosted_by", "host:h1")]


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("name", "content", "edges"),
    [
        pytest.param("t.json", NEUTRAL, NEUTRAL_EDGES, id="neutral"),
        pytest.param("t.yaml", YAML, HOSTED, id="neutral, in YAML"),
        pytest.param("t.json", NODE_LINK, HOSTED, id="node-link"),
        pytest.param(
            "t.json",
            {**NODE_LINK, "edges": NODE_LINK["links"], "links": []},
            HOSTED,
            id="node-link with both words for edges",
        ),
        pytest.param(
            "t.json",
            {"directed": True, "nodes": NODE_LINK["nodes"], "edges": NODE_LINK["links"]},
            HOSTED,
            id="node-link of newer networkx, which says edges",
        ),
        pytest.param(
            "t.graphml",
            GRAPHML,
            [
                ("link:1-2-1", "attached_to", "router:1"),
                ("link:1-2-1", "attached_to", "switch:2"),
                ("link:e7", "attached_to", "router:1"),
                ("link:e7", "attached_to", "switch:0"),
            ],
            id="GraphML of a network map: each cable depends on both ends",
        ),
    ],
)
def test_a_topology_is_read(tmp_path: Path, name: str, content: object, edges: list[Edge]) -> None:
    topology, _ = load_topology(written(tmp_path, name, content))
    assert sorted(topology.edges()) == edges


def test_what_is_odd_about_a_file_is_told(tmp_path: Path) -> None:
    schema = TopologySchema(kinds={"host": KindRule(), "vm": KindRule(), "app": KindRule()})
    topology, report = load_topology(written(tmp_path, "t.json", NEUTRAL), schema)
    assert report.lines() == [
        "unknown kind lag: 1 nodes, used",
        "unknown kind unknown: 1 nodes, used",
        "host:h1 depends on itself: left out",
    ]
    assert "lag:l1" in topology.redundant


def test_an_id_that_two_kinds_share_is_told_where_an_edge_needs_it(tmp_path: Path) -> None:
    nodes = [{"id": "x", "kind": "vm"}, {"id": "x", "kind": "app"}, {"id": "h", "kind": "host"}]
    content = {"nodes": nodes, "edges": [{"from": "x", "to": "h"}]}
    topology, report = load_topology(written(tmp_path, "t.json", content))
    assert report.faults == ["an edge names x: vm:x and not app:x"]
    assert list(topology.dependencies("vm:x")) == ["host:h"]


def test_names_that_no_entity_may_have_are_replaced(tmp_path: Path) -> None:
    nodes = [
        {"id": "a", "kind": "BGP session"},
        {"id": "b\nc", "kind": "3par"},
        {"id": "x" * 512, "kind": "host"},
        {"id": "d", "kind": "é"},
        {"id": "vm:", "kind": "vm"},
        {"id": ":e"},
    ]
    topology, _ = load_topology(written(tmp_path, "t.json", {"nodes": nodes}))
    named = ["BGP_session:a", "_3par:b c", f"host:{'x' * 507}", "_:d", "vm:_", "_:e"]
    assert list(topology) == named


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("t.json", "{", id="no JSON"),
        pytest.param("t.json", "[]", id="a list"),
        pytest.param("t.json", '{"nodes": [{"kind": "host"}]}', id="a node without id"),
        pytest.param("t.json", '{"links": [{"source": 1}]}', id="a link without target"),
        pytest.param("t.json", "[" * 100_000, id="too deep"),
        pytest.param("t.yaml", "a: [", id="no YAML"),
        pytest.param("t.yaml", "!!python/object:os.system {}", id="a YAML object"),
        pytest.param("t.graphml", "<graphml", id="no XML"),
        pytest.param("t.graphml", "<nothing/>", id="no graph"),
        pytest.param("t.graphml", "", id="empty"),
    ],
)
def test_a_file_that_is_no_topology_is_refused_in_one_sentence(
    tmp_path: Path, name: str, content: str
) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(TopologyError, match=r"^[^\n]+$"):
        load_topology(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(b'{"nodes": "\xff"}')
    with pytest.raises(TopologyError):
        load_topology(path)
    with pytest.raises(TopologyError):
        load_topology(tmp_path / "none.json")
