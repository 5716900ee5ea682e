"""What commands on a running site share: where its log is, who gives a word, and how it is told."""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from firstfault.cli.sentences import plain
from firstfault.cli.terminal import (
    EXIT_DIFFERENT,
    EXIT_UNANSWERED,
    BadInput,
    Format,
    Output,
    err,
    out,
    say_json,
)
from firstfault.log import Log
from schemas.base import LONGEST_S, is_entity, parse_duration
from schemas.topics import LOCAL_FILE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from correlator.signatures import Signer
    from firstfault.log.local import Retention
    from firstfault.operations import Answer, Site, Wanted
    from schemas.keys import KeySet

T = TypeVar("T")

Local = Annotated[
    Path | None,
    typer.Option("--local", help="Folder of the log.", metavar="DIR", envvar="FIRSTFAULT_LOCAL"),
]
Kafka = Annotated[
    str | None,
    typer.Option(
        "--kafka",
        help="Kafka: bootstrap address, or a file of settings.",
        metavar="HOST:PORT|FILE",
        envvar="FIRSTFAULT_KAFKA",
    ),
]
DomainName = Annotated[
    str, typer.Option("--domain", help="Name of the domain.", envvar="FIRSTFAULT_DOMAIN")
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        help="Your private key; its name stands in keys.yaml beside it.",
        metavar="PEM",
        envvar="FIRSTFAULT_KEY",
    ),
]
KeysOption = Annotated[
    Path | None,
    typer.Option("--keys", help="Key set with your name, if elsewhere.", metavar="FILE"),
]
By = Annotated[
    str | None,
    typer.Option(
        "--by", help="Your name, e.g. operator:op-7, where the site has no keys.", metavar="NAME"
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with the decision.")]
Expires = Annotated[
    str, typer.Option("--expires", help="The command is good for so long.", metavar="TIME")
]
Wait = Annotated[
    str,
    typer.Option("--wait", help="For the correlator's answer; 0s: do not wait.", metavar="TIME"),
]
LogGeneration = Annotated[
    str | None,
    typer.Option(help="Generation of the domain's log, if its map does not say it."),
]


@dataclass(frozen=True)
class Where:
    """Which log is meant."""

    local: Path | None
    kafka: str | None
    domain: str = "default"


@asynccontextmanager
async def open_log(
    local: Path | None,
    kafka: str | None,
    *,
    must_exist: bool = True,
    retention: "Retention | None" = None,
    append_s: float | None = None,
) -> AsyncIterator[Log]:
    """Open a log, and close it; the one place where commands say which kind it is.

    retention: what is kept of a local log, by who runs its correlator; None: nothing is dropped.
    append_s: how long an append to Kafka is tried; what is given up then does not leave later.

    Raises:
        BadInput: neither or both are named, or there is no log.
        LogError: it cannot be opened.
    """
    if (local is None) == (kafka is None):
        msg = "where is the log? give either --local DIR or --kafka HOST:PORT"
        raise BadInput(msg)
    if local is None:
        log = _on_kafka(str(kafka), append_s)
    else:
        log = _local(local, must_exist=must_exist, retention=retention)
    try:
        yield log
    finally:
        await log.close()


def _local(folder: Path, *, must_exist: bool, retention: "Retention | None") -> Log:
    from firstfault.log.local import open_local

    if must_exist and not (folder / LOCAL_FILE).is_file():
        msg = f"{folder}: no log there; `firstfault run --local {folder}` begins one"
        raise BadInput(msg)
    return open_local(folder, retention=retention)


def _on_kafka(bootstrap: str, append_s: float | None) -> Log:
    import logging

    from firstfault.kafka import kafka_settings
    from firstfault.log.kafka import APPEND_S, KafkaLog
    from firstfault.log.kafka_settings import quiet_libraries

    quiet_libraries(logging.CRITICAL)  # A command says itself what is wrong.
    return KafkaLog(kafka_settings(bootstrap), append_s=append_s or APPEND_S)


@asynccontextmanager
async def open_site(
    where: Where, *, must_exist: bool = True, append_s: float | None = None
) -> AsyncIterator["Site"]:
    """Open a site's log, and find the domain in it.

    Raises:
        BadInput: there is no such log, or no such domain in it.
        LogError: it cannot be opened.
    """
    opened = open_log(where.local, where.kafka, must_exist=must_exist, append_s=append_s)
    async with opened as log:
        yield await _placed(log, where.domain)


async def _placed(log: Log, domain: str) -> "Site":
    """Return a domain where the log's map says; without a map, in the first partition."""
    from firstfault.log.control import read_domains
    from firstfault.operations import Site, meant

    domains = await read_domains(log)
    if domains is None:
        return Site(log, domain)
    if domain in domains.by_name:
        return Site(log, domain, domains.by_name[domain].partition, domains.log_generation)
    like = " or ".join(meant(domain, domains.by_name)) or ", ".join(domains.by_name)
    msg = f"--domain {domain}: no domain of this log; did you mean {like}?"
    raise BadInput(msg)


def in_site(where: Where, do: "Callable[[Site], Awaitable[T]]", *, must_exist: bool = True) -> T:
    """Do something with a site's log, and return what it returns."""

    async def whole() -> T:
        async with open_site(where, must_exist=must_exist) as site:
            return await do(site)

    return asyncio.run(whole())


# ---- who says it ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Speaker:
    """Who gives a command, and what signs it."""

    name: str
    signer: "Signer | None"


@dataclass(frozen=True)
class Credentials:
    """How a speaker is named on the command line."""

    key: Path | None
    keys: Path | None
    by: str | None
    log_generation: str | None = None
    """None: the one that the site's map of domains says."""


def speaker(given: Credentials, site: "Site") -> Speaker:
    """Return who speaks: the name that the key set gives to the key, or the one that is said.

    Raises:
        BadInput: nobody is named, or the key is not in the set.
    """
    if given.key is None:
        if given.by is None:
            msg = "sign it with --key PEM; where the site has no keys, say --by operator:NAME"
            raise BadInput(msg)
        if not is_entity(given.by):
            msg = f"--by {given.by}: name a speaker by its kind, e.g. operator:op-7"
            raise BadInput(msg)
        err.print("not signed: a correlator that has keys refuses it")
        return Speaker(given.by, None)
    from correlator.keyfile import KEYS_FILE, read_keys, read_private
    from correlator.signatures import Signer, public_id

    private = read_private(given.key)
    file = given.keys or given.key.parent / KEYS_FILE
    found = read_keys(file).by_id.get(public_id(private))
    if found is None:
        msg = f"{file}: no name for the key of {given.key} there"
        raise BadInput(msg)
    if given.by not in (None, found.identity):
        msg = f"--by {given.by}: that key is of {found.identity}"
        raise BadInput(msg)
    return Speaker(
        found.identity, Signer(private, site.domain, given.log_generation or site.log_generation)
    )


@dataclass(frozen=True)
class Owner:
    """In whose name a correlator claims, by which key it signs, and whom it believes."""

    name: str = "correlator:local"
    keys: "tuple[KeySet, ...]" = ()
    private_key: "Ed25519PrivateKey | None" = None


def owner_of(private: Path | None, files: list[Path]) -> Owner:
    """Return the owner that a key set names for a private key; with neither, one without a key.

    Raises:
        BadInput: there is one without the other, or the key may not own a log.
    """
    if private is None and not files:
        return Owner()
    if private is None or not files:
        msg = "--signing-key and --keys go together: who believes nobody else must be believed"
        raise BadInput(msg)
    from correlator.keyfile import read_keys, read_private
    from correlator.signatures import public_id

    key, keys = read_private(private), tuple(map(read_keys, files))
    found = keys[0].by_id.get(public_id(key))
    kind, _, name = found.identity.partition(":") if found else ("", "", "")
    if found is None or kind != "correlator" or not {"owner_claim", "action"} <= set(found.may):
        msg = (
            f"{files[0]}: the key of {private} must be of a correlator there that may say "
            "owner_claim and action (firstfault keys new correlator:NAME …)"
        )
        raise BadInput(msg)
    return Owner(name, keys, key)


def region_of(private: Path | None, files: list[Path]) -> "tuple[str, Ed25519PrivateKey | None]":
    """Return the name that a key set gives to a region's private key; without a key, none of both.

    Raises:
        BadInput: the key may not give verdicts there, or no key is named.
    """
    if private is None:
        if files:
            raise BadInput("a region believes no signatures: --keys says whose --signing-key is")
        err.print("not signed: domains that have keys refuse the verdicts", markup=False)
        return "", None
    from correlator.keyfile import KEYS_FILE, read_keys, read_private
    from correlator.signatures import public_id

    key, file = read_private(private), files[0] if files else private.parent / KEYS_FILE
    found = read_keys(file).by_id.get(public_id(key))
    kind, _, name = found.identity.partition(":") if found else ("", "", "")
    if found is None or kind != "region" or "verdict" not in found.may:
        msg = (
            f"{file}: the key of {private} must be of a region there that may say verdict "
            "(firstfault keys new region:NAME --may verdict …)"
        )
        raise BadInput(msg)
    return name, key


# ---- times ---------------------------------------------------------------------------------


def seconds(option: str, text: str) -> float:
    """Return the seconds of an option, e.g. 5s.

    Raises:
        BadInput: it is no duration, or longer than ten years.
    """
    try:
        found = parse_duration(text)
    except ValueError as error:
        msg = f"{option} {text}: {error}"
        raise BadInput(msg) from None
    if found > LONGEST_S:
        msg = f"{option} {text}: longer than ten years"
        raise BadInput(msg)
    return found


def moment(option: str, text: str | None) -> datetime | None:
    """Return the time of an option: RFC 3339, or so long from now.

    Raises:
        BadInput: it is neither, or is past.
    """
    if text is None:
        return None
    now = datetime.now(UTC)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            parse_duration(text)
        except ValueError:
            msg = f"{option} {text}: use 2h, or 2026-11-23T10:00:00Z"
            raise BadInput(msg) from None
        found = now + timedelta(seconds=seconds(option, text))
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    if found <= now:
        msg = f"{option} {text}: that is past"
        raise BadInput(msg)
    return found


# ---- giving a command ----------------------------------------------------------------------


@dataclass(frozen=True)
class Manner:
    """How a command is given."""

    where: Where
    who: Credentials
    lasts: str
    wait: str
    output: Format


def manner_of(
    *,
    local: Local = None,
    kafka: Kafka = None,
    domain: DomainName = "default",
    key: KeyOption = None,
    keys: KeysOption = None,
    by: By = None,
    expires: Expires = "60s",
    wait: Wait = "5s",
    log_generation: LogGeneration = None,
    output: Output = Format.text,
) -> Manner:
    """Return how a command is given, from the options that all of them have.

    One that lies in the log for longer than a minute was meant for another situation.
    """
    who = Credentials(key, keys, by, log_generation)
    return Manner(Where(local, kafka, domain), who, expires, wait, output)


def giving(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `manner_of` to a command that takes the manner they make."""
    keywords = inspect.signature(manner_of).parameters.values()
    own = [one for one in inspect.signature(command).parameters.values() if one.name != "manner"]

    @functools.wraps(command)
    def whole(**given: object) -> None:
        manner = manner_of(**{one.name: given.pop(one.name) for one in keywords})  # type: ignore[arg-type]
        command(**given, manner=manner)

    whole.__signature__ = inspect.Signature([*own, *keywords])  # type: ignore[attr-defined]
    whole.__annotations__ = {one.name: one.annotation for one in (*own, *keywords)}
    return whole


def tell(manner: Manner, make: "Callable[[Site, str], Awaitable[Wanted]]") -> None:
    """Give the command that `make` returns for a site and a speaker; print what became of it.

    Ends with exit code 1 where it is refused, 3 where nobody answers.
    """
    from firstfault.operations import give

    lasts_s, wait_s = seconds("--expires", manner.lasts), seconds("--wait", manner.wait)

    async def whole(site: "Site") -> "tuple[Wanted, Answer]":
        who = speaker(manner.who, site)
        wanted = await make(site, who.name)
        return wanted, await give(site, wanted, who.signer, lasts_s, wait_s)

    # A command may be the first word in a log that a correlator will read when it starts.
    wanted, answer = in_site(manner.where, whole, must_exist=bool(wait_s))
    _show(manner, wanted, answer, wait_s)
    if answer.verdict == "refused":
        raise typer.Exit(EXIT_DIFFERENT)
    if answer.verdict == "unanswered" and wait_s:
        raise typer.Exit(EXIT_UNANSWERED)


def _show(manner: Manner, wanted: "Wanted", answer: "Answer", wait_s: float) -> None:
    what = f"{wanted.command} {wanted.target}"
    if manner.output is Format.json:
        say_json(
            {
                "command": wanted.command,
                "target": wanted.target,
                "by": wanted.by,
                "verdict": answer.verdict,
                "reason": answer.reason,
                "text": answer.text,
                "offset": answer.offset,
            }
        )
    elif answer.verdict == "accepted":
        out.print(f"[green]accepted[/green] {plain(answer.text)} [dim]({answer.reason})[/dim]")
    elif answer.verdict == "refused":
        out.print(f"[red]refused[/red] {plain(what)}: {plain(answer.text)} ({answer.reason})")
    elif wait_s:
        err.print(
            f"[yellow]nobody answered within {wait_s:g} s[/yellow]: {plain(what)} stands in the "
            f"log at offset {answer.offset}, and counts until it expires; does a correlator run?"
        )
    else:
        out.print(f"given: {plain(what)}, offset {answer.offset}; not waited for an answer")
