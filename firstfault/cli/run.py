"""``firstfault run``: the correlator on a log that grows."""

from pathlib import Path
from typing import Annotated

import typer

from correlator.live import Told
from correlator.recorded import Said
from firstfault.cli.replay import printer
from firstfault.cli.running import LASTS, local_log, run_until, say
from firstfault.cli.terminal import (
    Format,
    Output,
    Rules,
    TopologyFile,
    app,
    err,
    say_report,
)
from firstfault.playback import open_site, spare_collections
from schemas.base import from_microseconds
from schemas.outputs import DeadLetter


@app.command(epilog="Example: firstfault run --local site --rules nfvi --for 1s")
def run(
    *,
    local: Annotated[
        Path, typer.Option(help="Folder of the log; made if it is not there.", metavar="DIR")
    ],
    rules: Rules = "generic",
    topology: TopologyFile = None,
    domain: Annotated[str, typer.Option(help="Name of the domain.")] = "default",
    output: Output = Format.text,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no outputs.")] = False,
    duration: LASTS = None,
    config: Annotated[
        Path | None,
        typer.Option(help="The site's collectors and actuators, run as well.", metavar="FILE"),
    ] = None,
    enforce: Annotated[
        bool, typer.Option("--enforce", help="Its actuators carry out; else a dry run.")
    ] = False,
    keys: Annotated[
        list[Path] | None,
        typer.Option(
            help="Key set to believe; after the first, those for activate_keys.", metavar="FILE"
        ),
    ] = None,
    signing_key: Annotated[
        Path | None,
        typer.Option(help="Our private key: signs actions and claims.", metavar="PEM"),
    ] = None,
) -> None:
    """Fold a log as it grows, and append what is found and what is to be done about it.

    Ends with Ctrl-C or SIGTERM. Nothing is lost: all of it is in the log, and is folded again.
    With --keys, commands, claims, results and edits of the topology count only if signed.
    """
    from firstfault.cli.site import owner_of
    from firstfault.consumer.gate import Trust
    from firstfault.edges import Duty, EdgesConfig, Place, edges_of, read_edges, together
    from firstfault.local import Correlator, Site, alone

    edges = read_edges(config) if config else EdgesConfig()
    owner = owner_of(signing_key, keys or [])
    duty = Duty(Trust(owner.keys[0] if owner.keys else None), enforce)
    ruleset, graph, report = open_site(rules, topology)
    say_report(report.lines())
    show = printer(output, quiet=quiet)

    def on_told(one: Told) -> None:
        if isinstance(one.output, DeadLetter):
            err.print(f"offset {one.offset}: {one.output.reason}", markup=False)
            return
        at = from_microseconds(one.log_us)
        show(
            Said.model_construct(case="", offset=one.offset, index=0, log_at=at, output=one.output)
        )

    async def whole() -> None:
        async with local_log(local) as log, alone(local):
            err.print(f"{local}: reading the log of {domain}", markup=False)
            beside = edges_of(edges, Place(log, local, say), duty)
            site = Site(
                domain, graph, ruleset, owner.name, keys=owner.keys, private_key=owner.private_key
            )
            correlator = Correlator(log, site, on_told)
            await together([correlator.run(), *(one.run() for one in beside)])

    spare_collections()
    run_until(whole, duration)
