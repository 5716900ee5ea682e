"""Topologies from files: our neutral JSON or YAML, networkx node-link JSON, GraphML."""

import json
import re
from pathlib import Path
from typing import Any

import networkx as nx
from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from correlator.topology import Edge, ImportReport, Topology, build, short_form
from schemas.base import ENTITY_CHARACTERS_MAX, first_fault
from schemas.topology import TopologyDocument, TopologySchema

UNKNOWN_KIND = "unknown"
"""Kind of an entity whose name states none."""
UNDIRECTED_NODE_KIND = "switch"
"""Kind of a node of an undirected network map that states none."""
UNDIRECTED_EDGE_KIND = "link"
"""An edge of such a map becomes an entity of its own that depends on both ends."""


class TopologyError(Exception):
    """A topology file that cannot be used at all, said in one sentence."""


_BAD_FILE = (
    OSError,
    SyntaxError,  # no XML
    RecursionError,
    ValueError,
    KeyError,  # what networkx says of a link without an end
    TypeError,  # and of a list where it wants a mapping
    nx.NetworkXError,
    YAMLError,
)


def load_topology(
    path: Path, schema: TopologySchema | None = None
) -> tuple[Topology, ImportReport]:
    """Return the graph in a file and what was unusual about it.

    Raises:
        TopologyError: where the file cannot be read as any of the known forms.
    """
    faults: list[str] = []
    try:
        nodes, edges = _parse(path, faults)
    except _BAD_FILE as error:
        msg = f"{path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        raise TopologyError(msg) from error
    topology, report = build(nodes, edges, schema)
    report.faults = faults
    return topology, report


Parsed = tuple[list[tuple[str, bool | None]], list[Edge]]


def _parse(path: Path, faults: list[str]) -> Parsed:
    if path.suffix == ".graphml":
        return _from_graph(nx.read_graphml(path))
    text = path.read_text(encoding="utf-8")
    data = YAML(typ="safe").load(text) if path.suffix in (".yaml", ".yml") else json.loads(text)
    if not isinstance(data, dict):
        msg = "the topology must be a mapping with nodes and edges"
        raise ValueError(msg)  # noqa: TRY004 - one error type for all bad files
    for key in ("links", "edges"):
        rows = data.get(key)
        if isinstance(rows, list) and any(
            isinstance(row, dict) and "source" in row for row in rows
        ):
            return _from_graph(nx.node_link_graph(data, edges=key))
    return from_neutral(data, faults)


def from_neutral(data: dict[str, Any], faults: list[str]) -> Parsed:
    """Return nodes and edges of the neutral form; what is wrong with one is told, not fatal."""
    try:
        document = TopologyDocument.model_validate(data)
    except ValidationError as error:
        raise ValueError(first_fault(error, "topology")) from error
    names: dict[str, str] = {}
    ambiguous: dict[str, str] = {}
    nodes: list[tuple[str, bool | None]] = []
    for node in document.nodes:
        entity = entity_id(node.kind, node.id)
        if names.setdefault(node.id, entity) != entity:
            ambiguous.setdefault(node.id, entity)
        names.setdefault(entity, entity)
        nodes.append((entity, node.redundant))
    edges: list[Edge] = []
    for edge in document.edges:
        for end in sorted({edge.from_, edge.to} & ambiguous.keys()):
            faults.append(f"an edge names {end}: {names[end]} and not {ambiguous.pop(end)}")
        ends = [names.get(end) or entity_id(None, end) for end in (edge.from_, edge.to)]
        if ends[0] == ends[1]:
            faults.append(f"{ends[0]} depends on itself: left out")
            continue
        edges.append((ends[0], edge.relation, ends[1]))
    return nodes, edges


def written_inline(written: dict[str, Any], schema: TopologySchema) -> Topology:
    """Return the graph that a rule test or a scenario holds: short form, or nodes and edges.

    Raises:
        ValueError: where it is neither, or something in it had to be left out.
    """
    if not {"nodes", "edges"} & written.keys():
        return build([], short_form(written), schema)[0]
    faults: list[str] = []
    nodes, edges = from_neutral(written, faults)
    if faults:
        raise ValueError("; ".join(faults))
    return build(nodes, edges, schema)[0]


def entity_id(kind: str | None, name: str) -> str:
    """Return ``kind:rest``; a name that states no kind is of kind ``unknown``.

    What no `EntityId` may hold is replaced, the same for topologies, events and labels.

    >>> entity_id("app", "bgp:IntGW-01"), entity_id(None, "host:h1"), entity_id("host", "host:h1")
    ('app:bgp:IntGW-01', 'host:h1', 'host:h1')
    >>> entity_id("BGP session", "a"), entity_id("3par", "b")
    ('BGP_session:a', '_3par:b')
    """
    if kind is None:
        kind, name = name.split(":", 1) if ":" in name else (UNKNOWN_KIND, name)
    name = name.removeprefix(f"{kind}:")
    if not (kind.isascii() and kind.isidentifier()):
        kind = re.sub(r"^(?=\d|$)|\W", "_", kind, flags=re.ASCII)
    if not (name.isascii() and name.isprintable() and name):
        name = re.sub(r"[\r\n]+", " ", name).encode(errors="replace").decode() or "_"
    return f"{kind}:{name}"[:ENTITY_CHARACTERS_MAX]


def _from_graph(graph: "nx.Graph[Any]") -> Parsed:
    ids = {
        node: entity_id(_kind(data, directed=graph.is_directed(), name=str(node)), str(node))
        for node, data in graph.nodes(data=True)
    }
    nodes: list[tuple[str, bool | None]] = [
        (ids[node], data.get("redundant")) for node, data in graph.nodes(data=True)
    ]
    edges: list[Edge] = []
    for number, (a, b, data) in enumerate(
        sorted(graph.edges(data=True), key=lambda e: (str(e[0]), str(e[1])))
    ):
        if a == b:
            continue
        if graph.is_directed():
            edges.append((ids[a], str(data.get("relation", "depends_on")), ids[b]))
        else:
            name = str(data.get("id", f"{a}-{b}-{number}"))
            link = entity_id(UNDIRECTED_EDGE_KIND, name)
            edges += [(link, "attached_to", ids[a]), (link, "attached_to", ids[b])]
    return nodes, edges


def _kind(data: dict[str, Any], *, directed: bool, name: str) -> str | None:
    kind = data.get("kind")
    if isinstance(kind, str) and kind:
        return kind
    return None if directed or ":" in name else UNDIRECTED_NODE_KIND
