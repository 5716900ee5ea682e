"""``firstfault demo``: two shipped recordings become two incidents, decisions and pictures."""

import os
from pathlib import Path
from typing import Annotated

import typer

from correlator.recorded import read_record
from firstfault.cli.explain import at_its_best, show_incident
from firstfault.cli.graph import write_scene
from firstfault.cli.replay import play, printer
from firstfault.cli.score import scored, show_figures
from firstfault.cli.sentences import incident_title, plain
from firstfault.cli.site import Kafka
from firstfault.cli.terminal import BadInput, Format, app, out
from firstfault.playback import open_playback

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCENES = {
    "rack-power": "Both power feeds of a rack fail: 1,857 events, one cause.",
    "lag-flap": "A member of a link aggregation bounces eight times: one failover, then hands off.",
}
ROWS = 6
"""Rows of evidence that show what a table of it looks like."""
REAL = "kddi-nfv-learn"
"""A recording of a real NFV test environment; it belongs to others and is not shipped."""


def _tell(name: str, sentence: str, folder: Path) -> None:
    from correlator import view

    if not (EXAMPLES / name).is_dir():
        msg = f"{EXAMPLES / name}: the recordings of the demo are part of a checkout"
        raise BadInput(msg)
    out.rule(f"[bold]{name}[/bold]")
    out.print(sentence + "\n")
    record_folder = folder / name
    playback = open_playback(EXAMPLES / name, rules="nfvi")
    play(playback, printer(Format.text, quiet=False), record_folder)
    record = read_record(record_folder)
    for number, said in enumerate(record.incidents().values(), start=1):
        out.print()
        show_incident(record, said, ROWS)
        best = at_its_best(said)
        picture = record_folder / f"incident-{number}.png"
        scene = view.around(record.topology, best, incident_title(best), record.alarms)
        write_scene(scene, picture)
        out.print(f"[bold]picture[/bold] {plain(str(picture))}\n")


def _score_real_data() -> None:
    data = Path(os.environ.get("FIRSTFAULT_DATA") or Path("..") / "shared" / "data")
    out.rule("[bold]a real recording[/bold]")
    if not (data / REAL).is_dir():
        out.print(f"left out: {plain(str(data / REAL))} is not here (FIRSTFAULT_DATA says where)")
        return
    out.print("Six days of a real NFV test environment, with its faults labelled by others.\n")
    playback = open_playback(data / REAL, rules="ip-core")
    show_figures(scored(playback), f"{REAL}, rules {playback.rules.name}")


def _cut_a_link(kafka: str | None) -> None:
    import asyncio
    import tempfile

    from firstfault.live_demo import play

    with tempfile.TemporaryDirectory() as folder:
        moments = asyncio.run(play(Path(folder), out.print, kafka))
    for ms, text in moments.story():
        out.print(plain(f"{ms:9.1f} ms  {text}"))
    count = "one incident" if moments.incidents == 1 else f"{moments.incidents} incidents"
    out.print(f"\n[bold]{count}[/bold], all cleared after the link was mended")


@app.command(epilog="Example: firstfault demo --to demo-out")
def demo(
    to: Annotated[
        Path, typer.Option(help="Folder for the records and pictures.", metavar="DIR")
    ] = Path("demo-out"),
    live: Annotated[
        bool, typer.Option("--live", help="Cut a link between two network namespaces; as root.")
    ] = False,
    kafka: Kafka = None,
) -> None:
    """Show two recorded faults found and acted upon, with every reason, and a picture of each.

    With --live: a link that is really cut, with the time from the cut to the notice of it; with
    --kafka by way of a cluster on which `firstfault topics create` has made the topics.
    """
    if live:
        _cut_a_link(kafka)
        return
    for name, sentence in SCENES.items():
        _tell(name, sentence, to)
    _score_real_data()
