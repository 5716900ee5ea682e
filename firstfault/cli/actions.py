"""``firstfault actions``: what has left a running site, and answers of consumers in any language.

A consumer that is no Python reads ``actions tail --output json`` on its standard input, and writes
a result a line to ``actions answer``: see ``examples/consumer``.
"""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from firstfault.cli.sentences import action_text, clock, plain, short
from firstfault.cli.site import (
    By,
    Credentials,
    DomainName,
    Kafka,
    KeyOption,
    KeysOption,
    Local,
    LogGeneration,
    Where,
    in_site,
    seconds,
    speaker,
)
from firstfault.cli.terminal import (
    BadInput,
    Commands,
    Format,
    Output,
    app,
    err,
    out,
    say_json,
)

if TYPE_CHECKING:
    from firstfault.log import Record
    from firstfault.operations import Site
    from schemas.inputs import Result
    from schemas.outputs import Action

FOR_EVER = "36500d"
actions = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Show what leaves a running site, and answer it."
)
app.add_typer(actions, name="actions")
Verbs = Annotated[
    str | None, typer.Option("--verb", help="Of these alone, with commas between.", metavar="VERB")
]


@actions.command(
    epilog="Example: firstfault run --local site --for 1s && "
    "firstfault actions tail --local site --from-start --for 1s"
)
def tail(
    *,
    local: Local = None,
    kafka: Kafka = None,
    domain: DomainName = "default",
    verbs: Verbs = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="First all that is kept.")
    ] = False,
    lasts: Annotated[
        str, typer.Option("--for", help="End after so long, e.g. 10s; without it, never.")
    ] = FOR_EVER,
    output: Output = Format.text,
) -> None:
    """Print actions as they leave; as JSON, each line is the message as it stands in the log.

    Signatures are not looked at here: whoever acts on a line must check its.
    """
    lasts_s = seconds("--for", lasts)
    wanted = set(verbs.split(",")) if verbs else set()

    async def whole(site: "Site") -> None:
        from firstfault.operations import following, parsed
        from schemas.outputs import Action
        from schemas.topics import ACTIONS

        span = await site.log.span(ACTIONS, site.partition)
        first = span.first if from_start else span.end
        async for record in following(site, ACTIONS, first, lasts_s):
            action = parsed(record, Action)
            if action is None:
                err.print(f"offset {record.offset}: no action, passed over")
            elif action.domain == domain and (not wanted or action.verb in wanted):
                _print(record, action, output)

    in_site(Where(local, kafka, domain), whole)


def _print(record: "Record", action: "Action", output: Format) -> None:
    from schemas.base import from_microseconds

    if output is Format.json:
        typer.echo(record.value.decode())
        sys.stdout.flush()
        return
    stamp = clock(from_microseconds(record.log_us))
    key = short(action.idempotency_key)
    out.print(f"{stamp}  [dim]{key}[/dim]  {plain(action_text(action))}")


@actions.command(
    epilog="Example: firstfault run --local site --for 1s && "
    "firstfault actions show last --local site"
)
def show(
    key: Annotated[
        str, typer.Argument(help="Beginning of its idempotency key, or last.", metavar="KEY")
    ],
    *,
    local: Local = None,
    kafka: Kafka = None,
    domain: DomainName = "default",
    output: Output = Format.text,
) -> None:
    """Print one action whole, and every result that came of it."""

    async def whole(site: "Site") -> "tuple[list[Action], list[Result]]":
        from firstfault import operations

        found = [one for _, one in await operations.actions(site)]
        return found, await operations.results(site)

    found, results = in_site(Where(local, kafka, domain), whole)
    if key == "last" and not found:
        out.print("no action has ever left")
        return
    action = found[-1] if key == "last" else _meant(key, found)
    came = [one for one in results if one.idempotency_key == action.idempotency_key]
    if output is Format.json:
        document = action.model_dump(mode="json")
        say_json({"action": document, "results": [one.model_dump(mode="json") for one in came]})
        return
    table = Table(title=plain(action_text(action)), title_justify="left", box=None, pad_edge=False)
    table.add_column("field")
    table.add_column("value")
    for name, value in action.model_dump(mode="json", exclude_none=True).items():
        if value not in ("", [], {}):
            table.add_row(name, plain(str(value)))
    out.print(table)
    for one in came:
        out.print(f"{one.state} by {plain(one.actuator)} {plain(str(one.proof))}")
    if not came:
        out.print("no result yet")


def _meant(key: str, found: "list[Action]") -> "Action":
    """Return the action, as it last left, whose key begins so."""
    keys = {one.idempotency_key: one for one in found}
    begun = [name for name in keys if name.startswith(key)]
    if len(begun) != 1:
        msg = f"no action {key} here"
        raise BadInput(f"{key} may be any of {', '.join(begun[:5])}" if begun else msg)
    return keys[begun[0]]


@actions.command(
    epilog="Example: firstfault run --local site --for 1s && "
    "firstfault actions answer examples/consumer/results.jsonl --local site "
    "--by actuator:mgmt-1"
)
def answer(
    file: Annotated[
        Path,
        typer.Argument(help="A result a line, as JSON; - is standard input.", metavar="FILE"),
    ],
    *,
    local: Local = None,
    kafka: Kafka = None,
    domain: DomainName = "default",
    key: KeyOption = None,
    keys: KeysOption = None,
    by: By = None,
    log_generation: LogGeneration = None,
) -> None:
    """Append results of actions to the log, signed: what a consumer in any language answers.

    A line is {"idempotency_key": …, "action_id": …, "verb": …, "state": …, "proof": {…}}, as the
    exported schema result.schema.json says. A line that is none is told and passed over, exit
    code 2.
    """
    faults: list[str] = []

    async def whole(site: "Site") -> int:
        from firstfault.log.frames import FrameWriter

        who = speaker(Credentials(key, keys, by, log_generation), site)
        writer, count = FrameWriter(site.log, domain, who.name, site.partition), 0
        stream = sys.stdin.buffer if str(file) == "-" else file.open("rb")
        with stream:
            # A thread reads: the log must not wait for a consumer that is busy.
            while line := await asyncio.to_thread(stream.readline):
                result = _result(line, who.name, faults)
                if result is not None:
                    signed = result if who.signer is None else who.signer.signed(result)
                    await writer.write([signed])
                    count += 1
        return count

    count = in_site(Where(local, kafka, domain), whole)
    err.print(f"{count} results appended")
    if faults:
        msg = f"{len(faults)} lines were no results; the first: {faults[0]}"
        raise BadInput(msg)


def _result(line: bytes, name: str, faults: list[str]) -> "Result | None":
    """Return the result of a line in a consumer's name; None where it is none."""
    from pydantic import ValidationError

    from schemas.base import first_fault
    from schemas.inputs import Result

    if not line.strip():
        return None
    try:
        return Result.model_validate_json(line).model_copy(update={"actuator": name})
    except ValidationError as error:
        faults.append(first_fault(error, "line"))
        err.print(plain(faults[-1]))
        return None
