"""Pictures of a topology, whole or around an incident: a bounded scene, drawn or exported.

Called by ``firstfault graph`` and the demo. It decides what is shown and never what is true: causes
and evidence are those of the incident it is given. The same scene gives the same text.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import networkx as nx
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from correlator.topology import Topology
from schemas.base import kind_of
from schemas.outputs import Evidence, Incident

NODES_MAX = 60
"""Entities around an incident that a person still reads; the rest is summarised as counts."""
PICTURE_NODES_MAX = 400
"""Entities of a whole topology that still make a picture; more only make a file."""
WAY_MAX = 12
"""Steps looked for between a cause and a symptom."""
_SWEEPS = 6
"""Passes that put each entity beside its neighbours; crossings hardly fall after four."""


@dataclass(frozen=True)
class Look:
    """How a role is drawn.

    text: for the legend. fill, edge, ink: colours. dashed: the border.
    """

    text: str
    fill: str
    edge: str
    ink: str = "#1b1b1f"
    dashed: bool = False


# The fills differ in lightness too, so that they stay apart in grey and for the colour-blind.
ROLES = {
    "cause": Look("the cause", "#a3161f", "#6e0a12", ink="#ffffff"),
    "for": Look("symptom, speaks for it", "#ffc266", "#b36b00"),
    "late": Look("symptom, explained but late", "#fff0c2", "#b39b4d"),
    "against": Look("symptom, not explained", "#cdb5ee", "#6a3fb0"),
    "missing": Look("symptom expected, not seen", "#ffffff", "#b36b00", dashed=True),
    "runner_up": Look("runner-up", "#c9e2ff", "#2a6ab3"),
    "unlisted": Look("raised alarms, not listed", "#ffeed6", "#d9b380"),
    "quiet": Look("raised nothing", "#f1f1f4", "#b8b8c0", ink="#55555f"),
}


@dataclass
class Scene:
    """What is shown.

    graph: an edge runs from the dependant to what it depends on; nodes carry `role` and `note`
        (a few words below the name), edges `relation`.
    carrying: the same nodes, and the edges along which failure travels; without a cycle.
    title: a sentence; empty for a topology alone.
    left_out: kind → entities with symptoms, or near the cause, that are not shown.
    """

    graph: "nx.DiGraph[str]"
    carrying: "nx.DiGraph[str]"
    title: str = ""
    left_out: Counter[str] = field(default_factory=Counter)

    def role(self, node: str) -> str:
        """Return the role of a node, a key of `ROLES`."""
        return str(self.graph.nodes[node]["role"])


def whole(topology: Topology) -> Scene:
    """Return a scene of every entity and edge."""
    graph = topology.graph()
    for node in graph:
        graph.nodes[node].update(role="quiet", note="")
    return Scene(graph, carrying=_carrying(topology))


def _carrying(topology: Topology) -> "nx.DiGraph[str]":
    """Return the graph of the edges along which failure travels; it has no cycle."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(topology)
    for dependant, relation, dependency in topology.edges():
        if relation not in topology.silent:
            graph.add_edge(dependant, dependency, relation=relation)
    return graph


def around(
    topology: Topology, incident: Incident, title: str, alarmed: Collection[str] = ()
) -> Scene:
    """Return the scene of an incident: cause, evidence and what lies between, a bounded part.

    Args:
        topology: the graph; an edge that carries no failure is left out.
        incident: with its evidence.
        title: of the picture.
        alarmed: entities that raised anything; those that depend on the cause are counted where
            they are not shown (an incident lists its weightiest evidence only).
    """
    full = _carrying(topology)
    roles, notes = _roles(incident), _notes(incident.evidence)
    cause = incident.causes[0].entity
    full.add_node(cause)
    shown: dict[str, None] = {cause: None}
    ways = nx.single_source_shortest_path(full.to_undirected(as_view=True), cause, WAY_MAX)
    for node in islice(roles, 1, None):
        way = ways.get(node, [node] if node in full else [])
        if len(shown.keys() | set(way)) <= NODES_MAX:
            shown.update(dict.fromkeys(way))
    for near in sorted(full.successors(cause)):
        if len(shown) < NODES_MAX:
            shown[near] = None
    graph = nx.DiGraph(full.subgraph(shown))
    for node in graph:
        otherwise = "unlisted" if node in alarmed else "quiet"
        graph.nodes[node].update(role=roles.get(node, otherwise), note=notes.get(node, ""))
    below = nx.ancestors(full, cause) & set(alarmed)
    left_out = Counter(kind_of(node) for node in below | roles.keys() if node not in graph)
    return Scene(graph, graph, title, left_out)


def _roles(incident: Incident) -> dict[str, str]:
    """Return entity → role, the cause first, then by what should be shown first."""
    roles = {incident.causes[0].entity: "cause"}
    for role in ("for", "against", "late"):
        for one in incident.evidence:
            if one.role == role:
                roles.setdefault(one.entity, role)
    for rival in incident.causes[1:]:
        roles.setdefault(rival.entity, "runner_up")
    for one in incident.evidence:
        if one.role == "missing":
            roles.update(dict.fromkeys({one.entity} - roles.keys(), "missing"))
    return roles


def _notes(evidence: Iterable[Evidence]) -> dict[str, str]:
    """Return entity → its symptoms in a few words."""
    told: dict[str, list[str]] = {}
    for one in evidence:
        words = told.setdefault(one.entity, [])
        word = f"no {one.symptom}" if one.role == "missing" else one.symptom
        if word not in words:
            words.append(word)
    return {
        entity: words[0] + (f" + {len(words) - 1}" if len(words) > 1 else "")
        for entity, words in told.items()
    }


# ---- where everything stands --------------------------------------------------------------


def columns(graph: "nx.DiGraph[str]") -> list[list[str]]:
    """Return the nodes by depth of dependency, ordered so that neighbours stand side by side.

    The first column depends on nothing shown; failure travels from left to right.
    """
    layers = [sorted(layer) for layer in nx.topological_generations(graph.reverse(copy=False))]
    for _ in range(_SWEEPS):
        for order in (range(1, len(layers)), range(len(layers) - 2, -1, -1)):
            places = _places(layers)
            for number in order:
                layers[number] = _beside_neighbours(graph, layers[number], places)
                places.update(_places([layers[number]]))
    return layers


def _places(layers: list[list[str]]) -> dict[str, float]:
    """Return node → its height in its column, -0.5 to 0.5."""
    return {
        node: (place + 0.5) / len(layer) - 0.5
        for layer in layers
        for place, node in enumerate(layer)
    }


def _beside_neighbours(
    graph: "nx.DiGraph[str]", layer: list[str], places: dict[str, float]
) -> list[str]:
    def middle(node: str) -> tuple[float, str]:
        near = [places[n] for n in (*graph.successors(node), *graph.predecessors(node))]
        return (sum(near) / len(near) if near else places[node], node)

    return sorted(layer, key=middle)


# ---- the drawing, in inches ---------------------------------------------------------------

_BOX_HEIGHT, _ROW, _GAP, _MARGIN = 0.34, 0.44, 0.95, 0.35
_CHARACTER, _PADDING = 0.074, 0.2
_TITLE_HEIGHT, _LEGEND_HEIGHT, _WIDTH_MIN = 0.75, 0.75, 9.0
_LABEL_MAX = 34


@dataclass(frozen=True)
class Box:
    """Where a node stands: left edge, middle and width."""

    left: float
    middle: float
    width: float


def draw(scene: Scene, file: Path) -> None:
    """Write the scene as a picture; the suffix of the file (.svg, .png) says which.

    Raises:
        ValueError: the scene is too large for a picture.
    """
    if len(scene.graph) > PICTURE_NODES_MAX:
        msg = f"{len(scene.graph)} entities make no picture (at most {PICTURE_NODES_MAX})"
        raise ValueError(msg)
    boxes, width, height = _boxes(scene)
    with rc_context({"svg.hashsalt": "firstfault", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(width, height), facecolor="white")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_xlim(0.0, width)
        axes.set_ylim(0.0, height)
        axes.set_axis_off()
        _draw_edges(axes, scene, boxes)
        for node, box in boxes.items():
            _draw_node(axes, scene, node, box)
        _draw_title(axes, scene, height)
        _draw_legend(axes, scene)
        metadata = {"Date": None} if file.suffix == ".svg" else None
        with catch_warnings():
            simplefilter("ignore", UserWarning)  # a letter that the font lacks is drawn as a box
            figure.savefig(file, dpi=130, metadata=metadata)


def _label(text: str) -> str:
    return text if len(text) <= _LABEL_MAX else text[: _LABEL_MAX - 1] + "…"


def _boxes(scene: Scene) -> tuple[dict[str, Box], float, float]:
    """Return the boxes, and width and height of the whole picture."""
    layers = columns(scene.carrying)
    rows = max((len(layer) for layer in layers), default=1)
    middle = _LEGEND_HEIGHT + rows * _ROW / 2
    boxes: dict[str, Box] = {}
    left = _MARGIN
    for layer in layers:
        notes = (str(scene.graph.nodes[node]["note"]) for node in layer)
        letters = max(len(_label(text)) for text in (*layer, *notes))
        width = letters * _CHARACTER + _PADDING
        step = max(_ROW, min(2 * _ROW, (rows - 1) * _ROW / max(1, len(layer) - 1)))
        for place, node in enumerate(layer):
            height = middle + ((len(layer) - 1) / 2 - place) * step
            boxes[node] = Box(left, height, width)
        left += width + _GAP
    needed = max(left - _GAP + _MARGIN, len(scene.title) * 0.105 + 2 * _MARGIN, _WIDTH_MIN)
    return boxes, needed, _LEGEND_HEIGHT + rows * _ROW + _TITLE_HEIGHT


def _draw_edges(axes: Axes, scene: Scene, boxes: dict[str, Box]) -> None:
    """Draw each edge that no longer way implies: with all of them a rack is a thicket."""
    for dependant, dependency in sorted(nx.transitive_reduction(scene.carrying).edges):
        start, end = boxes[dependency], boxes[dependant]
        hit = all(
            scene.role(n) in ("cause", "for", "late", "unlisted") for n in (dependant, dependency)
        )
        axes.add_patch(
            FancyArrowPatch(
                (start.left + start.width, start.middle),
                (end.left, end.middle),
                arrowstyle="-|>",
                mutation_scale=8,
                shrinkA=0,
                shrinkB=1,
                color="#a3161f" if hit else "#b8b8c0",
                linewidth=1.1 if hit else 0.7,
                alpha=0.75,
                zorder=2 if hit else 1,
            )
        )


def _draw_node(axes: Axes, scene: Scene, node: str, box: Box) -> None:
    look, note = ROLES[scene.role(node)], str(scene.graph.nodes[node]["note"])
    axes.add_patch(
        FancyBboxPatch(
            (box.left, box.middle - _BOX_HEIGHT / 2),
            box.width,
            _BOX_HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.07",
            facecolor=look.fill,
            edgecolor=look.edge,
            linestyle="--" if look.dashed else "-",
            linewidth=1.0,
            zorder=3,
        )
    )
    weight = "bold" if scene.role(node) == "cause" else "normal"
    centre, lift = box.left + box.width / 2, 0.06 if note else 0.0
    words: dict[str, Any] = {
        "parse_math": False,
        "ha": "center",
        "va": "center",
        "color": look.ink,
        "zorder": 4,
    }
    axes.text(centre, box.middle + lift, _label(node), fontsize=8, fontweight=weight, **words)
    if note:
        axes.text(centre, box.middle - 0.085, _label(note), fontsize=6, **words)


def _draw_title(axes: Axes, scene: Scene, height: float) -> None:
    axes.text(
        _MARGIN,
        height - 0.3,
        scene.title,
        parse_math=False,
        fontsize=12,
        fontweight="bold",
        va="center",
    )
    under = "failure travels from left to right; what a longer way implies has no arrow of its own"
    axes.text(_MARGIN, height - 0.55, under, fontsize=8, color="#55555f", va="center")


def _draw_legend(axes: Axes, scene: Scene) -> None:
    present = {scene.role(node) for node in scene.graph}
    left = _MARGIN
    for role, look in ROLES.items():
        if role not in present or not scene.title:
            continue
        style = "--" if look.dashed else "-"
        swatch = FancyBboxPatch(
            (left, 0.36),
            0.2,
            0.14,
            boxstyle="round,pad=0,rounding_size=0.03",
            facecolor=look.fill,
            edgecolor=look.edge,
            linestyle=style,
        )
        axes.add_patch(swatch)
        axes.text(left + 0.27, 0.43, look.text, fontsize=8, va="center")
        left += 0.55 + len(look.text) * 0.068
    if scene.left_out:
        axes.text(
            _MARGIN,
            0.17,
            left_out_text(scene),
            parse_math=False,
            fontsize=8,
            color="#55555f",
            va="center",
        )


def left_out_text(scene: Scene) -> str:
    """Return what is not shown, in words; empty where everything is."""
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(scene.left_out.items()))
    return f"not shown, with symptoms: {counts}" if counts else ""


# ---- text forms ---------------------------------------------------------------------------


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def dot(scene: Scene) -> str:
    """Return the scene in Graphviz' language."""
    lines = ["digraph firstfault {", "  rankdir=RL;", "  node [shape=box, style=filled];"]
    if scene.title:
        lines.append(f"  label={_quoted(scene.title)};")
    for node in sorted(scene.graph):
        look = ROLES[scene.role(node)]
        colours = f'fillcolor="{look.fill}", color="{look.edge}", fontcolor="{look.ink}"'
        lines.append(f"  {_quoted(node)} [{colours}];")
    for a, b, relation in _edges(scene):
        lines.append(f"  {_quoted(a)} -> {_quoted(b)} [label={_quoted(relation)}];")
    return "\n".join([*lines, "}", ""])


def mermaid(scene: Scene) -> str:
    """Return the scene as a Mermaid flow chart."""
    names = {node: f"n{number}" for number, node in enumerate(sorted(scene.graph))}
    lines = ["flowchart RL"]
    for node, name in names.items():
        text = node.replace('"', "#quot;")
        lines.append(f'  {name}["{text}"]:::{scene.role(node)}')
    for a, b, relation in _edges(scene):
        lines.append(f'  {names[a]} -- "{relation.replace(chr(34), "#quot;")}" --> {names[b]}')
    for role, look in ROLES.items():
        if any(scene.role(node) == role for node in scene.graph):
            colours = f"fill:{look.fill},stroke:{look.edge},color:{look.ink}"
            lines.append(f"  classDef {role} {colours}")
    return "\n".join([*lines, ""])


def graphml(scene: Scene) -> str:
    """Return the scene as GraphML, with kind, role and relation."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for node in sorted(scene.graph):
        graph.add_node(node, kind=kind_of(node), role=scene.role(node))
    for a, b, relation in _edges(scene):
        graph.add_edge(a, b, relation=relation)
    return "\n".join([*nx.generate_graphml(graph), ""])


def _edges(scene: Scene) -> Iterator[tuple[str, str, str]]:
    for a, b in sorted(scene.graph.edges):
        yield a, b, str(scene.graph.edges[a, b].get("relation", "depends_on"))
