"""``firstfault shadow``: what other rules would have decided differently on a running site."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from firstfault.cli.sentences import clock, plain
from firstfault.cli.site import DomainName, Kafka, Local, Where, in_site, seconds
from firstfault.cli.terminal import (
    EXIT_DIFFERENT,
    Format,
    Output,
    TopologyFile,
    app,
    err,
    out,
    say_json,
    say_report,
)

if TYPE_CHECKING:
    from firstfault.operations import Site
    from firstfault.shadow import Difference, Report
    from schemas.keys import KeySet

_STYLE = {"+": "green", "-": "red", "~": "yellow"}


@app.command(
    epilog="Example: firstfault run --local site --for 2s && "
    "firstfault shadow --rules nfvi --local site"
)
def shadow(
    *,
    rules: Annotated[
        str, typer.Option(help="The other rules: a folder or a shipped pack.", metavar="PACK")
    ],
    local: Local = None,
    kafka: Kafka = None,
    domain: DomainName = "default",
    topology: TopologyFile = None,
    keys: Annotated[
        list[Path] | None,
        typer.Option(help="Key set to believe, as that of the correlator.", metavar="FILE"),
    ] = None,
    lasts: Annotated[
        str, typer.Option("--for", help="Go on with what comes for so long, e.g. 10m.")
    ] = "0s",
    limit: Annotated[int, typer.Option(help="Differences shown.", min=1)] = 50,
    output: Output = Format.text,
) -> None:
    """Fold a site's log by other rules, emit nothing, and tell what they would do differently.

    + only the other rules say it, - only those in force, ~ said of one incident differently. Exit
    code 1 where something differs. An action that only the other rules ask for was never carried
    out, so what would have followed its result is not known.
    """
    from firstfault.playback import open_site, spare_collections
    from firstfault.shadow import Shadow, document

    lasts_s = seconds("--for", lasts)
    ruleset, graph, imported = open_site(rules, topology)
    say_report(imported.lines())
    known = _keys(keys or [])
    spare_collections()

    async def whole(site: "Site") -> "Report":
        return await Shadow(site, ruleset, graph, known).run(lasts_s)

    report = in_site(Where(local, kafka, domain), whole)
    if output is Format.json:
        say_json(document(report))
    else:
        _show(report, limit)
    if report.differences:
        raise typer.Exit(EXIT_DIFFERENT)


def _keys(files: list[Path]) -> "tuple[KeySet, ...]":
    from correlator.keyfile import read_keys

    return tuple(map(read_keys, files))


def _show(report: "Report", limit: int) -> None:
    until = f"{clock(report.first_at)} to {clock(report.last_at)}"
    err.print(f"{report.records} messages, compared from {until} (UTC)")
    for one in report.differences[:limit]:
        _line(one)
    more = len(report.differences) - limit
    if more > 0:
        out.print(f"… and {more} more (--limit)")
    if not report.differences:
        out.print("nothing differs")


def _line(one: "Difference") -> None:
    times = f" ({one.count} times)" if one.count > 1 else ""
    text = f"{one.sign} {clock(one.at)}  {one.what:<8}  {one.text}{times}"
    out.print(f"[{_STYLE[one.sign]}]{plain(text)}[/{_STYLE[one.sign]}]")
