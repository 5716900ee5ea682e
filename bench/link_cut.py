"""A cable that is cut, twenty times: from the cut to the kernel's word, the action, the notice.

Each cut is a whole run of the program on a log of its own, between two network namespaces: in one
process on a local log, and as three processes on a real broker.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from statistics import quantiles

from bench.clock import Figures
from firstfault.live_demo import play
from firstfault.log.kafka_settings import quiet_libraries
from firstfault.log.kafka_topics import topics
from schemas.kafka import KafkaSettings
from tests.kafka.cluster import Cluster

CUTS = 20
STEPS = ("told", "logged", "opened", "acted", "notified")


def link_cut() -> Figures:
    """Return the milliseconds from the cut to each step: median, 95th percentile, the most."""
    if os.geteuid() != 0:
        return {"left_out": "network namespaces are made by root alone"}
    quiet_libraries()
    with Cluster() as cluster:
        return {"local": _cuts(None), "kafka": _cuts(cluster.bootstrap)}


def _cuts(bootstrap: str | None) -> Figures:
    seen: dict[str, list[float]] = {name: [] for name in STEPS}
    incidents = 0
    for number in range(CUTS):
        with tempfile.TemporaryDirectory() as folder:
            log = bootstrap and _topics(Path(folder), bootstrap, number)
            moments = asyncio.run(play(Path(folder), lambda _: None, log))
        incidents += moments.incidents
        after = moments.after_cut_ms()
        for name in STEPS:
            seen[name].append(after[name])
        sys.stderr.write(f"cut {number + 1}: notice after {after['notified']:.1f} ms\n")
    figures: Figures = {"cuts": CUTS, "incidents": incidents}
    for name, times in seen.items():
        cut_points = quantiles(times, n=20, method="inclusive")
        figures[f"{name}_ms"] = {
            "p50": round(cut_points[9], 1),
            "p95": round(cut_points[18], 1),
            "max": round(max(times), 1),
        }
    return figures


def _topics(folder: Path, bootstrap: str, number: int) -> str:
    """Make the topics of one cut; return the file of settings that names them."""
    kafka = KafkaSettings(bootstrap=bootstrap, prefix=f"cut-{number}.")
    with topics(kafka) as found:
        found.create(found.wanted(1))
    settings = folder / "kafka.yaml"
    settings.write_text(f"bootstrap: {kafka.bootstrap}\nprefix: {kafka.prefix}\n")
    return str(settings)
