"""`python -m bench [NAME…] [--output FILE]`: run all measurements, or those named; print JSON."""

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import throughput
from bench.clock import Figures
from bench.consumer import consumer
from bench.incident_storm import incident_storm
from bench.kafka_log import kafka_log
from bench.kddi import kddi
from bench.link_cut import link_cut
from bench.local_log import local_log
from bench.memory import bytes_per_entity
from bench.pressed_storm import pressed_storm
from bench.region import region
from bench.scale import scale
from bench.signing import signing
from bench.single_fault import single_fault
from bench.sla import sla
from bench.snapshots import snapshots
from bench.worker import worker

MEASUREMENTS: dict[str, Callable[[], Figures]] = {
    "non_matching": throughput.non_matching,
    "rules_10_300": throughput.rules_10_300,
    "entities_1k_100k": throughput.entities_1k_100k,
    "incident_storm": incident_storm,
    "pressed_storm": pressed_storm,
    "single_fault": single_fault,
    "bytes_per_entity": bytes_per_entity,
    "scale": scale,
    "local_log": local_log,
    "consumer": consumer,
    "kafka_log": kafka_log,
    "link_cut": link_cut,
    "snapshots": snapshots,
    "region": region,
    "worker": worker,
    "kddi": kddi,
    "signing": signing,
    "sla": sla,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurements and print one JSON document."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure speed.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the JSON there too")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(MEASUREMENTS))
    if unknown:
        parser.error(f"no such measurement: {', '.join(unknown)}")
    figures: Figures = {"python": platform.python_version(), "machine": platform.machine()}
    for name in options.names or MEASUREMENTS:
        print(name, file=sys.stderr)
        figures[name] = MEASUREMENTS[name]()
    text = json.dumps(figures, indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
