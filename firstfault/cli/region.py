"""``firstfault run --region``: judge what several domains share; an option of `run`."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from firstfault.cli.site import region_of
from firstfault.cli.terminal import Format, err
from firstfault.playback import spare_collections
from schemas.base import canonical, from_microseconds
from schemas.kafka import KafkaSettings

if TYPE_CHECKING:
    from correlator.region import Answer


@dataclass(frozen=True)
class RegionOptions:
    """What the command line says of a region."""

    kafka: KafkaSettings
    instance: str | None
    metrics_port: int | None
    lasts_s: float | None
    private: Path | None
    keys: list[Path]


def run_region(given: RegionOptions, output: Format, *, quiet: bool) -> None:
    """Judge until a signal, or until its time is over; print each verdict that is news."""
    from correlator.region_worker import RegionHooks
    from firstfault.on_kafka import Wanted, block_signals, own_name
    from firstfault.region import serve_region
    from firstfault.watchdog import run_to_the_end

    name, private_key = region_of(given.private, given.keys)
    name = name or own_name(given.instance)
    block_signals()
    err.print(f"{given.kafka.bootstrap}: region:{name} joins", markup=False)
    wanted = Wanted(
        given.kafka,
        name,
        given.instance,
        metrics_port=given.metrics_port,
        lasts_s=given.lasts_s,
    )
    hooks = RegionHooks(partial(_show, output, quiet), partial(err.print, markup=False))
    spare_collections()
    with suppress(asyncio.CancelledError):
        counts = run_to_the_end(serve_region(wanted, private_key, hooks))
        told = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        err.print(f"stopped; digests: {told or 'none'}", markup=False)


def _show(output: Format, quiet: bool, answer: "Answer", at_us: int) -> None:
    if quiet or answer.is_repeat:
        return
    at = from_microseconds(at_us)
    if output is Format.json:
        said = {"resource": answer.resource, "state": answer.state, "at": at}
        typer.echo(canonical({"type": "verdict", **said, "doubted_by": list(answer.doubted_by)}))
        return
    doubts = f"  doubted by {', '.join(answer.doubted_by)}" if answer.doubted_by else ""
    typer.echo(f"{at[11:23]}  {answer.state:8} {answer.resource}{doubts}")
