"""What commands share that run until they are told to end: how long, by which signal."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

from firstfault.cli import site
from firstfault.cli.terminal import BadInput, err
from firstfault.log import LogError

LASTS = Annotated[
    str | None, typer.Option("--for", help="End after so long, e.g. 10s.", metavar="TIME")
]


def say(sentence: str) -> None:
    """Tell of trouble."""
    err.print(sentence, markup=False)


def seconds(text: str | None) -> float | None:
    """Return what `--for` says; None: for ever."""
    return None if text is None else site.seconds("--for", text)


StateFolder = Annotated[
    Path | None,
    typer.Option(
        "--state",
        help="Folder of what must outlive a restart; with --local that folder, unless named.",
        metavar="DIR",
    ),
]


def state_folder(state: Path | None, local: Path | None) -> Path:
    """Return where a process keeps what must outlive a restart."""
    folder = state or local
    if folder is None:
        msg = (
            "name the log with --local DIR, or with --kafka and a folder of this machine as --state"
        )
        raise BadInput(msg)
    return folder


def run_until(work: Callable[[], Awaitable[None]], duration: str | None) -> None:
    """Run until it is time, or SIGTERM or Ctrl-C ends it; what it began is put in order first."""
    lasts_s = seconds(duration)

    async def whole() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel if task else int)
        ends = asyncio.timeout(lasts_s)
        try:
            async with ends:
                await work()
        except TimeoutError as error:
            if ends.expired():
                raise
            msg = "what it needs did not answer in time"
            raise LogError(msg) from error

    try:
        asyncio.run(whole())
    except (asyncio.CancelledError, TimeoutError):
        err.print("stopped")
