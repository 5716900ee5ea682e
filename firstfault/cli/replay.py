"""``firstfault replay``: a recording through the engine; what it says, as it says it."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from correlator.recorded import Recorder, Said
from firstfault.cli.sentences import TimeLine, plain
from firstfault.cli.terminal import (
    BadInput,
    Format,
    Output,
    Rules,
    TopologyFile,
    app,
    err,
    out,
    say_report,
)
from firstfault.playback import (
    Listeners,
    Moment,
    Playback,
    open_playback,
    parse_moment,
    spare_collections,
)
from schemas.keys import KeySet

From = Annotated[
    str | None,
    typer.Option("--from", help="First log time: RFC 3339, or +90s.", metavar="TIME"),
]
To = Annotated[
    str | None,
    typer.Option("--to", help="Log time to stop before: RFC 3339, or +90s.", metavar="TIME"),
]
PATIENCE_S = 1.0
"""A replay that takes longer shows how far it is."""


class Bar:
    """A progress bar on stderr, from the first second on, where stderr is a terminal."""

    def __init__(self, total: int | None, doing: str = "replaying") -> None:
        self._started_at = time.monotonic()
        self._progress = Progress(
            TextColumn(doing),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=err,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._progress.add_task(doing, total=total)
        self._shown = False

    def __call__(self, bytes_read: int) -> None:
        """Show how much of the recording has been read."""
        self.show(bytes_read, None)

    def show(self, done: int, total: int | None) -> None:
        """Show how much is done, of how much if that was not known."""
        if not err.is_terminal:
            return
        if not self._shown and time.monotonic() - self._started_at > PATIENCE_S:
            self._shown = True
            self._progress.start()
        self._progress.update(self._task, completed=done, total=total)

    def close(self) -> None:
        """Take the bar away."""
        if self._shown:
            self._progress.stop()


class Pace:
    """Lets log time pass as wall-clock time, so many times as fast."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._case: str | None = None
        self._ahead_s = 0.0

    def wait(self, spoken: Said, first_s: float) -> None:
        """Sleep until an output of a case that began then is due."""
        at_s = datetime.fromisoformat(spoken.log_at).timestamp()
        if spoken.case != self._case:
            self._case = spoken.case
            self._ahead_s = time.monotonic() - first_s / self._speed
        time.sleep(max(0.0, at_s / self._speed + self._ahead_s - time.monotonic()))


def _speed(text: str) -> Pace | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.0 < speed < float("inf"):
        msg = f"--speed {text}: use a factor above 0 (1 is as it happened), or max"
        raise BadInput(msg)
    return Pace(speed)


def moment(name: str, text: str | None) -> Moment | None:
    """Return the time that an option names."""
    if text is None:
        return None
    try:
        return parse_moment(text)
    except ValueError as error:
        msg = f"{name} {text}: use 2026-11-23T10:00:00Z, or +90s after the first input ({error})"
        raise BadInput(msg) from None


def _key_sets(files: list[Path]) -> tuple[KeySet, ...]:
    if not files:
        return ()
    from correlator.keyfile import read_keys

    return tuple(map(read_keys, files))


def printer(form: Format, *, quiet: bool) -> Callable[[Said], None]:
    """Return what prints an output in a form."""
    if quiet:
        return lambda _: None
    if form is Format.json:
        return lambda spoken: typer.echo(spoken.line())
    time_line = TimeLine()

    def show(spoken: Said) -> None:
        for line in time_line.lines(spoken.log_at, spoken.output):
            out.print(line)

    return show


def play(
    playback: Playback,
    show: Callable[[Said], None],
    record: Path | None = None,
    pace: Pace | None = None,
) -> Counter[str]:
    """Play a recording: show every output at its time, and record it where asked to.

    Returns how many outputs of each type there were; of incidents, how many opened.
    """
    spare_collections()
    counts: Counter[str] = Counter()
    with ExitStack() as opened:
        bar = Bar(playback.recording.size_bytes)
        opened.callback(bar.close)
        listeners = Listeners(on_progress=bar if err.is_terminal else None)
        recorder = None
        if record is not None:
            if record.resolve() == playback.recording.events.resolve().parent:
                msg = f"{record}: the recording itself is there; record into another folder"
                raise BadInput(msg)
            recorder = opened.enter_context(Recorder(record, playback.topology))
            listeners.on_input = recorder.hear
            listeners.on_dead_letter = recorder.refuse
        for spoken in playback.outputs(listeners):
            if pace is not None:
                pace.wait(spoken, playback.spans[spoken.case][0])
            show(spoken)
            counts[spoken.output.type] += getattr(spoken.output, "update", 0) == 0
            if recorder is not None:
                recorder.say(spoken)
        if recorder is not None:
            domain = playback.recording.header.domain
            recorder.finish(playback.rules, playback.recording.events.name, domain)
    return counts


def say_dead_letters(playback: Playback) -> None:
    """Print to stderr how many lines could not be read, and the first of them.

    Raises:
        BadInput: where they are all there is: nothing was replayed.
    """
    if not playback.dead_letters:
        return
    err.print(f"[yellow]{playback.dead_letters} lines could not be read[/yellow]")
    for letter in playback.letters:
        place = f"{letter.source}:{letter.position}"
        err.print(plain(f"  {place}: {letter.reason} [{letter.code}]"))
    if not playback.read:
        msg = f"{playback.recording.events}: not one line of it could be read; nothing was replayed"
        raise BadInput(msg)


@contextmanager
def _recorded(log: Path | None, kafka: str | None, domain: str | None) -> Iterator[Path]:
    """Yield where the recording is; one of a cluster is made, and dropped at the end."""
    if (log is None) == (kafka is None):
        raise BadInput("what is to be replayed? give either LOG or --kafka BOOTSTRAP")
    if log is not None:
        yield log
        return
    from firstfault.cli.record import written
    from firstfault.cli.site import open_log
    from firstfault.recording import whole

    async def all_of_it(folder: Path) -> None:
        async with open_log(None, kafka) as found:
            await written(folder, found, await whole(found, domain))

    with TemporaryDirectory(prefix="firstfault-") as folder:
        asyncio.run(all_of_it(Path(folder)))
        yield Path(folder)


@app.command(epilog="Example: firstfault replay examples/lag-flap --record lag-flap-out")
def replay(
    log: Annotated[
        Path | None,
        typer.Argument(help="JSONL file (.gz, .zst too) or recording folder.", metavar="[LOG]"),
    ] = None,
    *,
    kafka: Annotated[
        str | None,
        typer.Option(help="In place of LOG: what `firstfault record` would.", metavar="BOOTSTRAP"),
    ] = None,
    topology: TopologyFile = None,
    rules: Rules = "generic",
    speed: Annotated[
        str, typer.Option(help="Times as fast as it happened, or max.", metavar="X")
    ] = "max",
    start: From = None,
    end: To = None,
    domain: Annotated[
        str | None, typer.Option(help="Name of the domain, in place of the recording's own.")
    ] = None,
    output: Output = Format.text,
    keys: Annotated[
        list[Path] | None,
        typer.Option(
            help="Key set to check signatures by; after the first, those for activate_keys.",
            metavar="FILE",
            envvar="FIRSTFAULT_KEYS",
        ),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Folder to write what was said to.", metavar="OUT")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no outputs.")] = False,
) -> None:
    """Replay a recording through the engine, and print each incident and decision with its reason.

    A line that cannot be read stops nothing: it is counted, and with --record kept with its reason.
    """
    pace = _speed(speed)
    with _recorded(log, kafka, domain) as recording:
        playback = open_playback(recording, rules=rules, topology=topology, domain=domain)
        playback.start, playback.end = moment("--from", start), moment("--to", end)
        playback.keys = _key_sets(keys or [])
        say_report(playback.report.lines())
        counts = play(playback, printer(output, quiet=quiet), record, pace)
    say_dead_letters(playback)
    if playback.unchecked:
        err.print(f"signatures not checked: --keys is missing ({playback.unchecked} inputs)")
    for name in sorted(playback.unknown_rules):
        err.print(plain(f"rules:{name} was made active, and is not with the recording: refused"))
    told = ", ".join(f"{counts[kind]} {kind}s" for kind in ("incident", "decision", "action"))
    err.print(
        plain(f"{playback.inputs} inputs: {told}" + (f"; kept in {record}" if record else ""))
    )
