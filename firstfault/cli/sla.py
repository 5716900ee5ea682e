"""``firstfault sla``: what each class of workload got, beside what it is promised."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from correlator.recorded import OUTPUTS, Record, RecordedError, read_record
from correlator.rules import RuleSet, load_pack
from correlator.sla import NO_LEVEL, Outage, outages
from correlator.sla import report as figures_of
from firstfault.cli.graph import PICTURES
from firstfault.cli.sentences import plain
from firstfault.cli.terminal import (
    EXIT_DIFFERENT,
    BadInput,
    Commands,
    Format,
    Output,
    app,
    err,
    out,
    say_json,
)
from firstfault.packs import find_pack

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PARTS = ("detection", "recovery")
COLOURS = {"SAL1": "#c0392b", "SAL2": "#d68910", "SAL3": "#2471a3", NO_LEVEL: "#7f8c8d"}

sla = typer.Typer(
    cls=Commands, no_args_is_help=True, help="What each class of workload got, and is promised."
)
app.add_typer(sla, name="sla")


@sla.callback()
def _group() -> None:
    """Compare what each class of workload got with what it is promised."""


@sla.command(
    epilog="Example: firstfault replay examples/rack-power --rules nfvi --record out --quiet"
    " && firstfault sla report out"
)
def report(
    folder: Annotated[
        Path, typer.Argument(help="Folder that replay --record wrote.", metavar="OUT")
    ],
    *,
    rules: Annotated[
        str | None,
        typer.Option(
            help="Pack with the settings and budgets; default: that of the record.", metavar="PACK"
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Picture to write: .svg or .png.", metavar="FILE")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit code 1 where a budget is missed.")
    ] = False,
    output: Output = Format.text,
) -> None:
    """Print how fast outages were detected and recovered, for each service availability level.

    Both count from the first symptom: until an incident was told, and until an action that brings
    the workload back was confirmed.
    """
    if plot is not None and plot.suffix not in PICTURES:
        msg = f"{plot}: the suffix must be one of {', '.join(PICTURES)}"
        raise BadInput(msg)
    record = read_record(folder)
    _check_whole(record, folder)
    pack = _rules_of(record, folder, rules)
    found = outages(record, pack)
    figures = figures_of(found, pack.levels)
    if output is Format.json:
        say_json(figures)
    else:
        _print(figures, f"{folder}, rules {pack.name}")
    if plot is not None:
        _draw(found, figures, plot)
    if check and not figures["met"]:
        raise typer.Exit(EXIT_DIFFERENT)


def _check_whole(record: Record, folder: Path) -> None:
    """Refuse a record that was cut off at the end of a line, which no reader would notice."""
    counts = record.meta.get("counts")
    counts = counts if isinstance(counts, dict) else {}
    numbers = [counts.get(kind, 0) for kind in ("incident", "decision", "action")]
    promised = sum(one for one in numbers if isinstance(one, int))
    if promised != len(record.said):
        msg = f"{folder / OUTPUTS}:{len(record.said)}: cut off, there should be {promised} lines"
        raise RecordedError(msg)


def _rules_of(record: Record, folder: Path, name: str | None) -> RuleSet:
    meta = record.meta.get("rules")
    meta = meta if isinstance(meta, dict) else {}
    if not (name or meta.get("name")):
        msg = f"{folder}: the record names no rules; name them with --rules"
        raise BadInput(msg)
    pack = load_pack(find_pack(name or str(meta["name"])))
    if pack.hash != meta.get("hash"):
        text = f"{folder} was made under other rules than {pack.name} {pack.version} has now"
        err.print(f"[yellow]{plain(text)}[/yellow]")
    return pack


# ---- showing --------------------------------------------------------------------------------


def _print(figures: dict[str, Any], title: str) -> None:
    table = Table(title=plain(title), title_justify="left")
    for name in ("level", "", "outages", "p50 (s)", "p95 (s)", "max (s)", "budget (s)", "within"):
        table.add_column(name, justify="left" if name in ("level", "") else "right")
    for level, row in figures["levels"].items():
        if row["outages"]:
            for part in PARTS:
                table.add_row(level if part == PARTS[0] else "", part, *_cells(row[part]))
    if not table.row_count:
        out.print("no workload was hit")
        return
    out.print(table)
    for level, row in figures["levels"].items():
        ways = ", ".join(f"{verb} {count}" for verb, count in row["recovered_by"].items())
        missing = row["recovery"]["wanted"] - row["recovery"]["count"]
        if ways or missing:
            lost = f"{missing} not confirmed" if missing else ""
            out.print(plain(f"{level} recovered by: {', '.join(filter(None, [ways, lost]))}"))


def _cells(part: dict[str, Any]) -> list[str]:
    count = str(part["count"])
    if part["wanted"] != part["count"]:
        count += f" of {part['wanted']}"
    times = (_number(part[name]) for name in ("p50_s", "p95_s", "max_s", "budget_s"))
    within = "-" if part["within"] is None else f"{part['within']:.1%}"
    return [count, *times, within]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _draw(found: Sequence[Outage], figures: dict[str, Any], file: Path) -> None:
    """Write a picture: the share of outages detected, and recovered, within so many seconds."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    file.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "firstfault", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(9, 3.4), facecolor="white", layout="constrained")
        for axes, part in zip(figure.subplots(1, 2, sharey=True), PARTS, strict=True):
            rows = {level: row[part] for level, row in figures["levels"].items()}
            ends = [row[name] or 0 for row in rows.values() for name in ("max_s", "budget_s")]
            right = 1.1 * max(ends) or 1.0
            for level in sorted({one.level for one in found}):
                some = [one for one in found if one.level == level]
                _draw_part(axes, part, some, right)
                if rows[level]["budget_s"] is not None:
                    axes.axvline(rows[level]["budget_s"], color=COLOURS[level], linestyle=":")
            axes.set(title=part, xlabel="seconds after the first symptom")
            axes.set(xlim=(0, right), ylim=(0, 1.05))
            axes.grid(alpha=0.3)
        figure.axes[0].set_ylabel("share of outages")
        if found:
            figure.axes[0].legend(loc="lower right", frameon=False)
        metadata = {"Date": None} if file.suffix == ".svg" else None
        figure.savefig(file, dpi=130, metadata=metadata)


def _draw_part(axes: "Axes", part: str, some: Sequence[Outage], right: float) -> None:
    asked = some if part == "detection" else [one for one in some if one.wanted]
    taken = (one.detection_s if part == "detection" else one.recovery_s for one in asked)
    known = sorted(one for one in taken if one is not None)
    shares = [(rank + 1) / len(asked) for rank in range(len(known))]
    level = some[0].level
    label = level if level != NO_LEVEL else "no level"
    ends = [0, *known, right], [0, *shares, shares[-1] if shares else 0]
    axes.step(*ends, where="post", color=COLOURS[level], label=label)
