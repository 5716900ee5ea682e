"""``firstfault keys``: make keys, look at key sets, and sign a message by hand."""

import base64
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError
from rich.table import Table

from firstfault.cli.sentences import plain
from firstfault.cli.site import Manner, Reason, giving, tell
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
from schemas.base import canonical, first_fault
from schemas.inputs import SIGNED, Input
from schemas.keys import SAYINGS, Key, KeySet, key_id_of

if TYPE_CHECKING:
    from firstfault.operations import Site, Wanted

keys = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Make keys, look at key sets, sign a message."
)
app.add_typer(keys, name="keys")
KeyFile = Annotated[Path, typer.Argument(help="Key set, e.g. keys.yaml.", metavar="FILE")]
_MADE = "firstfault keys new operator:op-7 --may hold,activate_keys --out keys"
_INPUT: TypeAdapter[Input] = TypeAdapter(Input)


@keys.command(
    epilog="Example: firstfault keys new operator:op-7 --may maintenance_start,hold --out keys"
)
def new(
    identity: Annotated[str, typer.Argument(help="e.g. operator:op-7.", metavar="IDENTITY")],
    *,
    may: Annotated[
        str, typer.Option(help="What it may say, with commas between.", metavar="SAYING,…")
    ],
    folder: Annotated[Path, typer.Option("--out", help="Folder of the files.", metavar="DIR")],
    not_before: Annotated[
        str | None, typer.Option(help="Log time it counts from, RFC 3339.", metavar="TIME")
    ] = None,
    not_after: Annotated[
        str | None, typer.Option(help="Log time it counts until, RFC 3339.", metavar="TIME")
    ] = None,
) -> None:
    """Make a key: the private one in a file of its own, the public one at the end of keys.yaml.

    What a key may say: the name of a command, the verb of an action whose results it reports,
    or owner_claim, action, topology, verdict.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from correlator.keyfile import KEYS_FILE, add_key, write_private

    private = Ed25519PrivateKey.generate()
    raw = private.public_key().public_bytes_raw()
    entry = {
        "key_id": key_id_of(raw),
        "public_key": base64.b64encode(raw).decode(),
        "identity": identity,
        "may": [one.strip() for one in may.split(",")],
        "not_before": not_before,
        "not_after": not_after,
    }
    key = _key(entry)
    folder.mkdir(parents=True, exist_ok=True)
    name = "".join(one if one.isalnum() or one in "-." else "-" for one in identity)
    file = folder / f"{name}.pem"
    if file.exists():
        file = folder / f"{name}-{key.key_id}.pem"
    write_private(file, private)
    try:
        found = add_key(folder / KEYS_FILE, key)
    except Exception:
        file.unlink()  # A private key that nobody believes is only a risk.
        raise
    typer.echo(str(file))
    err.print(plain(f"{folder / KEYS_FILE}: {len(found.keys)} keys, keys:{found.hash}"))


def _key(entry: dict[str, Any]) -> Key:
    try:
        return Key.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["loc"][:1] == ("may",):
            first["msg"] = f"use {', '.join(SAYINGS)}"
        msg = f"{first['loc'][0] if first['loc'] else 'key'}: {first['msg']}"
        raise BadInput(msg) from None


@keys.command(epilog=f"Example: {_MADE} && firstfault keys show keys/keys.yaml")
def show(file: KeyFile, output: Output = Format.text) -> None:
    """Print whose keys are in a set, what each may say, and when it counts."""
    from correlator.keyfile import read_keys

    found = read_keys(file)
    if output is Format.json:
        say_json({"hash": found.hash, **found.model_dump(mode="json")})
        return
    table = Table("identity", "key", "may say", "from", "until", title=plain(_title(found)))
    for key in sorted(found.keys, key=lambda one: (one.identity, one.key_id)):
        span = (moment.isoformat() if moment else "" for moment in (key.not_before, key.not_after))
        table.add_row(plain(key.identity), key.key_id, ", ".join(key.may), *span)
    out.print(table)


def _title(found: KeySet) -> str:
    return f"{found.name}, keys:{found.hash}"


@keys.command(epilog=f"Example: {_MADE} && firstfault keys check keys/keys.yaml")
def check(
    file: KeyFile,
    private: Annotated[
        list[Path] | None, typer.Option(help="PEM whose public key must be there.", metavar="PEM")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Time at which they must count; default: now.")
    ] = None,
) -> None:
    """Check a key set, and print its name for activate_keys; exit code 1 where it is doubtful."""
    from correlator.keyfile import read_keys, read_private
    from correlator.signatures import public_id

    found = read_keys(file)
    doubts = list(_doubts(found, _moment(at)))
    for pem in private or ():
        key_id = public_id(read_private(pem))
        if key_id not in found.by_id:
            doubts.append(f"{pem}: its public key {key_id} is not in the set")
    typer.echo(f"keys:{found.hash}")
    for doubt in doubts:
        err.print(f"[yellow]{plain(f'{file}: {doubt}')}[/yellow]")
    if doubts:
        raise typer.Exit(EXIT_DIFFERENT)


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(tz=UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        msg = f"--at {text}: use 2026-11-23T10:00:00Z ({error})"
        raise BadInput(msg) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _doubts(found: KeySet, now: datetime) -> Iterator[str]:
    """Yield what is no fault of a set, but hardly meant."""
    for key in found.keys:
        if key.not_before and now < key.not_before:
            yield f"{key.key_id} of {key.identity} does not count yet"
        if key.not_after and now > key.not_after:
            yield f"{key.key_id} of {key.identity} counts no more"
    if not any("activate_keys" in key.may for key in found.keys):
        yield "nobody may say activate_keys: this set can never be replaced"


@keys.command(
    epilog=f"Example: {_MADE} && firstfault keys activate keys/keys.yaml --reason 'new operator' "
    "--local site --key keys/operator-op-7.pem --wait 0s"
)
@giving
def activate(
    file: Annotated[Path, typer.Argument(help="Key set.", metavar="FILE")],
    *,
    reason: Reason,
    manner: Manner,
) -> None:
    """Make a key set the one that is believed, from this place of the log on.

    Each worker must have been started with it (run --keys): one that has not believes nobody.
    """
    from correlator.keyfile import read_keys

    target = f"keys:{read_keys(file).hash}"

    async def make(_: "Site", by: str) -> "Wanted":
        from firstfault.operations import Wanted

        return Wanted("activate_keys", target, by, reason)

    tell(manner, make)


@keys.command(
    epilog=f"Example: {_MADE} && firstfault keys sign examples/hold.json"
    " --key keys/operator-op-7.pem --domain pod-1"
)
def sign(
    file: Annotated[
        Path, typer.Argument(help="One input as JSON; - is standard input.", metavar="FILE")
    ],
    key: Annotated[Path, typer.Option(help="Private key.", metavar="PEM")],
    domain: Annotated[str, typer.Option(help="Domain it is for, e.g. pod-1.")],
    log_generation: Annotated[str, typer.Option(help="Generation of the domain's log.")] = "0",
) -> None:
    """Print a message with its signature: a command, a result, a claim, an edit or a verdict."""
    from correlator.keyfile import read_private
    from correlator.signatures import Refused, Signer, written
    from correlator.signing import lacks

    try:
        value = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        text = value.decode()
    except UnicodeDecodeError:
        msg = f"{file}: not UTF-8"
        raise BadInput(msg) from None
    try:
        given = _INPUT.validate_json(text)
    except ValidationError as error:
        msg = f"{file}: {first_fault(error, 'input')}"
        raise BadInput(msg) from None
    lacking = lacks(given) if isinstance(given, SIGNED) else f"{given.type} inputs are not signed"
    if lacking:
        msg = f"{file}: {lacking}"
        raise BadInput(msg)
    try:
        document = written(text)
        signature = Signer(read_private(key), domain, log_generation).signature(document)
    except (Refused, ValueError) as error:
        msg = f"{file}: {error}"
        raise BadInput(msg) from None
    typer.echo(canonical({**document, "signature": signature}))
