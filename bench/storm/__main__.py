"""`python -m bench.storm`: one recording folder, by its seed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from bench.storm.faults import Fault, FaultKind, draw_faults
from bench.storm.recording import Label, compact, label, write
from bench.storm.site import HOSTS_PER_RACK, RACKS_PER_SITE, Site, build
from bench.storm.tape import NOISES, Event, Noise, background, storm


def _save(folder: Path, site: Site, events: list[Event], labels: list[Label], note: str) -> str:
    """Writes the recording and returns one sentence about it."""
    write(folder, site, events, labels, note)
    counts = f"{len(site.nodes)} nodes, {len(site.edges)} edges, {len(events)} events"
    return f"{folder}: {counts}, {len(labels)} labels\n"


def _run_storm(options: argparse.Namespace) -> str:
    """Makes a storm of drawn faults."""
    seed, seconds = int(options.seed), float(options.seconds)
    noise = replace(NOISES[options.noise], minute_stamps=bool(options.minute_stamps))
    site = build(options.hosts, options.vms, options.apps, options.racks, seed)
    faults = draw_faults(site, options.faults, seconds, seed)
    events = storm(site, faults, seconds, noise, seed)
    labels = label(site, faults, events, seconds, noise)
    note = f"storm, seed {seed}, {seconds:g} s, noise {compact(asdict(noise))}"
    return _save(options.out, site, events, labels, note)


SMALL_FAULTS: Final[dict[str, Fault]] = {
    "rack-power": Fault(FaultKind.RACK_POWER, ("rack", "r1"), 10.0, 70.0),
    "lag-flap": Fault(FaultKind.LAG_FLAP, ("link", "h002/ens1f0"), 10.0, 34.0, 8),
}
"""The fault of each small recording; two minutes leave room for its recovery."""


def _run_small(options: argparse.Namespace) -> str:
    """Makes a recording of 2 racks x 4 hosts x 4 VMs x 2 apps with one fault and no noise."""
    name, seconds, seed = str(options.command), 120.0, int(options.seed)
    site = build(8, 4, 2, 2, seed)
    faults = [SMALL_FAULTS[name]]
    events = storm(site, faults, seconds, Noise(), seed)
    labels = label(site, faults, events, seconds, Noise())
    return _save(options.out, site, events, labels, f"{name}, seed {seed}, no noise")


def _run_scale(options: argparse.Namespace) -> str:
    """Makes a large topology, a few faults and much that matches nothing."""
    seed, seconds, wanted = int(options.seed), float(options.seconds), int(options.entities)
    sample = build(HOSTS_PER_RACK * RACKS_PER_SITE, options.vms, options.apps)
    hosts = max(HOSTS_PER_RACK, round(wanted * len(sample.hosts) / len(sample.nodes)))
    site = build(hosts, options.vms, options.apps, None, seed)
    faults = draw_faults(site, options.faults, seconds, seed)
    count = 2 * wanted if options.background is None else int(options.background)
    events = storm(site, faults, seconds, Noise(), seed)
    events += background(site, count, seconds, seed)
    events.sort(key=lambda event: event["ts"])
    labels = label(site, faults, events, seconds, Noise())
    note = f"scale, seed {seed}, {count} background events"
    return _save(options.out, site, events, labels, note)


def _parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.storm",
        description="Generate a recording folder: topology, events, labels.",
        epilog="Example: python -m bench.storm storm recordings/one --faults 20 --seed 1",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, summary in (
        ("storm", "many faults in one data centre"),
        ("rack-power", "both feeds of one rack fail; 2 racks x 4 hosts x 4 VMs x 2 apps"),
        ("lag-flap", "one lag member bounces 8 times; the same small data centre"),
        ("scale", "a large topology and much background, for throughput"),
    ):
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("out", type=Path, metavar="OUT", help="folder to write")
        command.add_argument("--seed", type=int, default=1, help="default 1")
        command.set_defaults(run=_run_small)
        if name in {"storm", "scale"}:
            _add_sizes(command, name)
    return parser


def _add_sizes(command: argparse.ArgumentParser, name: str) -> None:
    """Adds the options of the two large recordings."""
    whole, faults = int, 20 if name == "storm" else 6
    command.add_argument("--vms", type=whole, default=20, help="VMs per host, default 20")
    command.add_argument("--apps", type=whole, default=2, help="apps per VM, default 2")
    command.add_argument("--seconds", type=float, default=120.0, help="length, default 120")
    command.add_argument("--faults", type=whole, default=faults, help=f"default {faults}")
    if name == "storm":
        command.add_argument("--hosts", type=whole, default=100, help="default 100")
        command.add_argument("--racks", type=whole, help="default: one for ten hosts")
        command.add_argument("--noise", choices=list(NOISES), default="calm", help="default calm")
        command.add_argument("--minute-stamps", action="store_true", help="ts in whole minutes")
        command.set_defaults(run=_run_storm)
        return
    command.add_argument("--entities", type=whole, default=100_000, help="about, default 100000")
    command.add_argument("--background", type=whole, help="events, default two per entity")
    command.set_defaults(run=_run_scale)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the recording asked for; returns 0, or 2 where it cannot exist."""
    options = _parser().parse_args(arguments)
    try:
        sys.stdout.write(options.run(options))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
