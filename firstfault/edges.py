"""The collectors and actuators that a site runs: its file, and how each is put together.

The same for `collect`, `act` and `run`: one file names them all, and each command takes its part.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import Field

from actuators.config import ActuatorConfig
from actuators.runner import Actuator, OnDone, OnTrouble
from collectors.config import CollectorConfig
from collectors.runner import Collector
from collectors.spool import Spool
from correlator.keyfile import read_private
from correlator.rules.yamlfile import read_one
from firstfault.consumer.duties import Self
from firstfault.consumer.gate import Gate, Trust
from firstfault.consumer.ledger import open_ledger
from firstfault.log import Log, LogError
from firstfault.log.frames import FrameWriter
from schemas.base import EntityId, Strict


class EdgesConfig(Strict):
    """The edges of a site (``site.yaml``): who tells, and who carries out."""

    domain: str = Field("default", min_length=1, description="the scope of correlation, e.g. pod-1")
    collectors: list[CollectorConfig] = Field(default_factory=list)
    actuators: list[ActuatorConfig] = Field(default_factory=list)


def read_edges(file: Path) -> EdgesConfig:
    """Return the edges that a file names.

    Raises:
        RuleFaults: with every fault of it, located.
    """
    return read_one(EdgesConfig, file, "the edges of a site")


@dataclass(frozen=True)
class Place:
    """Where edges work."""

    log: Log
    folder: Path
    """Of what each has to remember: spools and ledgers."""
    on_trouble: OnTrouble
    partition: int = 0


def collector_of(config: CollectorConfig, domain: str, place: Place) -> Collector:
    """Return a collector that tells its inputs to a domain of a log."""
    writer = FrameWriter(place.log, domain, config.observer, place.partition)
    file = _file(place.folder, "spool", config.observer)
    try:
        spool = Spool(file)
    except sqlite3.Error as error:
        msg = f"{file}: {error}"
        raise LogError(msg) from error
    return Collector(
        config.observer, config.made(), writer.write, spool, on_trouble=place.on_trouble
    )


@dataclass(frozen=True)
class Duty:
    """What an actuator may do, and whom it believes."""

    trust: Trust
    is_enforced: bool = False
    """Actions are carried out; else each is answered that it was not, for a dry run."""


def actuator_of(config: ActuatorConfig, duty: Duty, place: Place, on_done: OnDone) -> Actuator:
    """Return an actuator that carries out what a log asks of it.

    Raises:
        LogError: another process is this actuator, or its ledger cannot be used.
    """
    verbs = config.made()
    trust = duty.trust
    if config.signing_key:
        trust = replace(trust, private_key=read_private(Path(config.signing_key)))
    me = Self(config.name, frozenset(config.stands_on), is_dry_run=not duty.is_enforced)
    ledger = open_ledger(_file(place.folder, "ledger", config.name))
    return Actuator(
        place.log,
        Gate(ledger, me, trust, verbs.keys()),
        verbs,
        on_done,
        place.on_trouble,
        place.partition,
    )


def edges_of(config: EdgesConfig, place: Place, duty: Duty) -> list[Collector | Actuator]:
    """Return all that a site's file names, for one process with the correlator.

    Raises:
        LogError: another process is one of its actuators.
    """
    made: list[Collector | Actuator] = [
        collector_of(one, config.domain, place) for one in config.collectors
    ]
    return made + [
        actuator_of(one, duty, place, lambda _action, _outcome: None) for one in config.actuators
    ]


async def together(parts: Sequence[Awaitable[object]]) -> None:
    """Run until one of them ends, which it does by an error alone; then end the others."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    except BaseExceptionGroup as group:
        raise _first_of(group) from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


def _file(folder: Path, what: str, who: EntityId) -> Path:
    """Return the file of what somebody remembers; `:` and `/` are kept out of its name."""
    name = "".join(one if one.isalnum() or one in "-." else "-" for one in who)
    return folder / f"{what}-{name}.db"
