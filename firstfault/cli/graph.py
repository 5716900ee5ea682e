"""``firstfault graph``: the topology as a picture or a file, with an incident on it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from correlator.importers import load_topology
from correlator.recorded import Record, read_record
from firstfault.cli.explain import at_its_best, find_incident
from firstfault.cli.sentences import incident_title, plain
from firstfault.cli.terminal import BadInput, TopologyFile, app, err, say_report
from schemas.outputs import Incident

if TYPE_CHECKING:
    from correlator.view import Scene

PICTURES = (".svg", ".png")
TEXTS = {".dot": "dot", ".graphml": "graphml", ".mmd": "mermaid"}


def write_scene(scene: "Scene", file: Path) -> None:
    """Write a scene in the form that the suffix of the file names.

    Raises:
        BadInput: there is no such form, or the scene is too large for a picture.
    """
    from correlator import view

    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix in PICTURES:
        try:
            view.draw(scene, file)
        except ValueError as error:
            msg = f"{file}: {error}; name an incident, or write {', '.join(TEXTS)}"
            raise BadInput(msg) from None
        return
    if file.suffix not in TEXTS:
        msg = f"{file}: the suffix must be one of {', '.join((*PICTURES, *TEXTS))}"
        raise BadInput(msg)
    file.write_text(getattr(view, TEXTS[file.suffix])(scene), encoding="utf-8")


def _scene(record: Record | None, topology: Path | None, incident: str) -> "Scene":
    from correlator import view

    graph = record.topology if record else None
    if topology is not None:
        graph, report = load_topology(topology)
        say_report(report.lines())
    if graph is None:
        msg = "name a record folder, or a --topology file"
        raise BadInput(msg)
    if record is None:
        return view.whole(graph)
    best: Incident = at_its_best(find_incident(record, incident))
    return view.around(graph, best, incident_title(best), record.alarms)


@app.command(
    epilog="Example: firstfault graph --topology examples/lag-flap/topology.json --to lag.mmd"
)
def graph(
    to: Annotated[
        Path,
        typer.Option(help="File to write: .svg, .png, .dot, .graphml or .mmd.", metavar="FILE"),
    ],
    folder: Annotated[
        Path | None, typer.Argument(help="Folder that replay --record wrote.", metavar="[OUT]")
    ] = None,
    incident: Annotated[
        str, typer.Argument(help="Beginning of its id, or last.", metavar="[INCIDENT]")
    ] = "last",
    topology: TopologyFile = None,
) -> None:
    """Draw an incident on the topology around it, or write a whole topology to a file."""
    scene = _scene(read_record(folder) if folder else None, topology, incident)
    write_scene(scene, to)
    from correlator.view import left_out_text

    shown = f"{to}: {len(scene.graph)} entities, {scene.graph.number_of_edges()} edges"
    err.print(plain(". ".join(filter(None, [shown, left_out_text(scene)]))))
