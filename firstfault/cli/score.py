"""``firstfault score``: how good the answers are, against the labels of a recording folder."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from correlator.recorded import Said
from correlator.score import histories, read_labels
from correlator.score import score as figures_of
from firstfault.cli.replay import play, say_dead_letters
from firstfault.cli.sentences import plain
from firstfault.cli.terminal import (
    BadInput,
    Format,
    Output,
    Rules,
    TopologyFile,
    app,
    out,
    say_json,
    say_report,
)
from firstfault.playback import Playback, open_playback
from schemas.outputs import Incident

SHARES = ("hit_at_1", "hit_at_3", "kind_at_1")


def scored(playback: Playback) -> dict[str, Any]:
    """Return the figures of a recording folder; its labels are read when the replay has ended.

    Raises:
        BadInput: it has no labels, or they cannot be read.
    """
    file = playback.recording.labels
    if file is None:
        msg = f"{playback.recording.events.parent}: no labels.jsonl there to score against"
        raise BadInput(msg)
    incidents: list[tuple[str, Incident]] = []

    def keep(spoken: Said) -> None:
        if isinstance(spoken.output, Incident):
            incidents.append((spoken.case, spoken.output))

    play(playback, keep)
    return figures_of(read_labels(file), histories(incidents), playback.spans)


def show_figures(figures: dict[str, Any], title: str) -> None:
    """Print figures as tables."""
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in figures.items():
        if name == "delay_s":
            table.add_row("delay p50, p95 (s)", f"{_number(value['p50'])}, {_number(value['p95'])}")
        elif not isinstance(value, dict):
            table.add_row(name.replace("_", " "), _number(value))
    out.print(table)
    for name in ("by_fault", "by_root_kind"):
        _show_rows(figures[name], name.replace("_", " "))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _show_rows(rows: dict[str, dict[str, float]], title: str) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in ("labels", "answered", *SHARES):
        table.add_column(name.replace("_at_", "@"), justify="right")
    for name, row in rows.items():
        shares = (f"{row[share]:.3f}" for share in SHARES)
        table.add_row(plain(name), str(row["labels"]), str(row["answered"]), *shares)
    out.print(table)


@app.command(epilog="Example: firstfault score examples/rack-power --rules nfvi")
def score(
    folder: Annotated[
        Path, typer.Argument(help="Recording folder with labels.jsonl.", metavar="FOLDER")
    ],
    rules: Rules = "generic",
    topology: TopologyFile = None,
    output: Output = Format.text,
) -> None:
    """Score the causes named in a replay against labels, which are read only after it has ended."""
    playback = open_playback(folder, rules=rules, topology=topology)
    say_report(playback.report.lines())
    figures = scored(playback)
    say_dead_letters(playback)
    if output is Format.json:
        say_json(figures)
    else:
        show_figures(figures, f"{folder.name}, rules {playback.rules.name}")
