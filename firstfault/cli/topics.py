"""``firstfault topics``: the topics of a Kafka cluster, made, checked, or only planned."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from firstfault.cli.sentences import plain
from firstfault.cli.terminal import (
    EXIT_DIFFERENT,
    Commands,
    Format,
    Output,
    app,
    err,
    out,
    say_json,
)
from firstfault.kafka import kafka_settings, read_domain_file
from firstfault.log.kafka_settings import quiet_libraries
from firstfault.log.kafka_topics import (
    PARTITIONS,
    PARTITIONS_MAX,
    Wanted,
    rights,
    topics,
    wanted,
)
from schemas.control import DomainMap
from schemas.kafka import KafkaSettings

Kafka = Annotated[
    str, typer.Option(help="A broker's host:port, or a YAML file of settings.", metavar="BOOTSTRAP")
]
Partitions = Annotated[
    int | None,
    typer.Option(
        help=f"Of the log, fixed for its life; {PARTITIONS} for a new one.",
        min=1,
        max=PARTITIONS_MAX,
    ),
]
MADE = "firstfault topics create --kafka localhost:9092 --domains examples/domains.yaml"

group = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Make, check or plan the topics of a Kafka cluster."
)
app.add_typer(group, name="topics")


@group.command(epilog=f"Example: {MADE}")
def create(
    kafka: Kafka,
    *,
    partitions: Partitions = None,
    domains: Annotated[
        Path | None,
        typer.Option(help="YAML: which domain is in which partition.", metavar="FILE"),
    ] = None,
    output: Output = Format.text,
) -> None:
    """Make the topics that are not there, and publish which domain is where.

    Nothing that is there is changed. What is not as it must be is told, with exit code 1.
    """
    quiet_libraries(logging.CRITICAL)
    settings = kafka_settings(kafka)
    given = read_domain_file(domains) if domains else None
    with topics(settings) as there:
        wants = there.wanted(partitions)
        made = there.create(wants)
        faults = there.amiss(wants)
    published = given is not None and asyncio.run(_published(settings, given, wants[0].partitions))
    if output is Format.json:
        say_json({"made": made, "published": published, "amiss": faults})
    else:
        for name in made:
            out.print(plain(f"made {name}"))
        if given is not None:
            said = "published" if published else "published before"
            out.print(plain(f"{len(given.domains)} domains: {said}"))
    _end(faults, output)


async def _published(settings: KafkaSettings, given: DomainMap, partitions: int) -> bool:
    from firstfault.log.control import publish_domains
    from firstfault.log.kafka import KafkaLog

    log = KafkaLog(settings)
    try:
        return await publish_domains(log, given, partitions)
    finally:
        await log.close()


@group.command(epilog=f"Example: {MADE} && firstfault topics check --kafka localhost:9092")
def check(kafka: Kafka, *, output: Output = Format.text) -> None:
    """Say of each topic what is not as it must be, and how to mend it; exit code 1 if anything."""
    quiet_libraries(logging.CRITICAL)
    with topics(kafka_settings(kafka)) as there:
        wants = there.wanted()
        faults = there.amiss(wants)
    if output is Format.json:
        say_json({"amiss": faults})
    elif not faults:
        out.print(plain(f"{len(wants)} topics, {wants[0].partitions} partitions: as they must be"))
    _end(faults, output)


def _end(faults: list[str], output: Format) -> None:
    if output is Format.text:
        for fault in faults:
            err.print(f"[red]{plain(fault)}[/red]")
    if faults:
        raise typer.Exit(EXIT_DIFFERENT)


@group.command(epilog="Example: firstfault topics plan --partitions 24")
def plan(
    *,
    kafka: Annotated[
        str, typer.Option(help="As the others take it; nothing is asked.", metavar="BOOTSTRAP")
    ] = "localhost:9092",
    partitions: Partitions = None,
    output: Output = Format.text,
) -> None:
    """Print a script that makes the topics and gives each role its rights.

    It is for the site to read and to run, with Kafka's own tools. Run again, it changes nothing.
    """
    settings = kafka_settings(kafka)
    wants = wanted(settings, partitions or PARTITIONS)
    if output is Format.json:
        rows = [asdict(right) for right in rights(settings)]
        say_json({"topics": [_described(one) for one in wants], "rights": rows})
        return
    for line in _script(settings, wants):
        typer.echo(line)


def _described(want: Wanted) -> dict[str, Any]:
    return {
        "name": want.name,
        "partitions": want.partitions,
        "copies": want.copies,
        "settings": dict(want.settings),
    }


def _script(settings: KafkaSettings, wants: list[Wanted]) -> Iterator[str]:
    yield "#!/bin/sh -eu"
    yield f"BOOTSTRAP=${{BOOTSTRAP:-{settings.bootstrap}}}"
    yield ""
    yield "topic() {"
    yield '  kafka-topics.sh --bootstrap-server "$BOOTSTRAP" --create --if-not-exists "$@"'
    yield "}"
    for want in wants:
        yield f"# {want.topic.what}; key: {want.topic.key}"
        size = f"--partitions {want.partitions} --replication-factor {want.copies}"
        told = "".join(f" \\\n  --config {key}={value}" for key, value in want.settings.items())
        yield f"topic --topic {want.name} {size}{told}"
    yield ""
    yield 'acl() { kafka-acls.sh --bootstrap-server "$BOOTSTRAP" --add "$@"; }'
    for right in rights(settings):
        variable = right.role.upper()
        yield f"# {right.role}: {right.what}"
        yield f"{variable}=${{{variable}:-User:firstfault-{right.role}}}"
        for line in right.lines:
            yield f'acl --allow-principal "${variable}" {line}'
