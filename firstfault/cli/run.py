"""``firstfault run``: the correlator on a log that grows."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from correlator.live import Told
from correlator.recorded import Said
from firstfault.cli.replay import printer
from firstfault.cli.terminal import (
    BadInput,
    Format,
    Output,
    Rules,
    TopologyFile,
    app,
    err,
    say_report,
)
from firstfault.playback import open_site, spare_collections
from schemas.base import from_microseconds, parse_duration
from schemas.outputs import DeadLetter


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        msg = f"--for {text}: {error}"
        raise BadInput(msg) from None


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
    duration: Annotated[
        str | None, typer.Option("--for", help="End after so long, e.g. 10s.", metavar="TIME")
    ] = None,
) -> None:
    """Fold a log as it grows, and append what is found and what is to be done about it.

    Ends with Ctrl-C or SIGTERM. Nothing is lost: all of it is in the log, and is folded again.
    """
    from firstfault.local import Correlator, Site, alone
    from firstfault.log.local import open_local

    lasts_s = _seconds(duration)
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
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel if task else int)
        log = open_local(local)
        try:
            async with alone(local):
                err.print(f"{local}: reading the log of {domain}", markup=False)
                correlator = Correlator(log, Site(domain, graph, ruleset), on_told)
                await asyncio.wait_for(correlator.run(), lasts_s)
        finally:
            await log.close()

    spare_collections()
    try:
        asyncio.run(whole())
    except (asyncio.CancelledError, TimeoutError):
        err.print("stopped")
