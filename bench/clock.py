"""How a measurement is taken: processor time, the best of several runs, `json.loads` beside it.

Processor time, so that other work on the machine costs nothing; the best run, since noise only
adds. Every figure stands beside the same lines through `json.loads` in the same run: the ratio
says more than the seconds of a machine nobody knows.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from correlator.score import quantile
from firstfault.playback import spare_collections

REPEATS = 5
Figures = dict[str, Any]
"""Names of figures with their units → values; JSON."""


def seconds(run: Callable[[], object]) -> float:
    """Return the processor seconds of one run; what lay about before it is not collected in it."""
    spare_collections()  # As every replay does once all is loaded.
    start = time.process_time()
    run()
    return time.process_time() - start


def best(runs: Sequence[Callable[[], object]], repeats: int = REPEATS) -> list[float]:
    """Return the least processor seconds of each of several runs, taken in turns."""
    taken = [[seconds(run) for run in runs] for _ in range(repeats)]
    return [min(column) for column in zip(*taken, strict=True)]


def beside_json(
    runs: Mapping[str, Callable[[], object]], lines: Sequence[bytes], repeats: int = REPEATS
) -> Figures:
    """Return, for each run over the lines, events per second and the ratio to `json.loads`."""
    names = list(runs)
    parse, *taken = best([lambda: parse_all(lines), *runs.values()], repeats)
    return {
        "events": len(lines),
        "json_loads_per_s": round(len(lines) / parse),
        **{
            name: {
                "events_per_s": round(len(lines) / spent),
                "us_per_event": round(spent / len(lines) * 1e6, 3),
                "times_json_loads": round(spent / parse, 2),
            }
            for name, spent in zip(names, taken, strict=True)
        },
    }


def parse_all(lines: Sequence[bytes]) -> None:
    """Parse every line and keep nothing."""
    for line in lines:
        json.loads(line)


def milliseconds(spent_s: Sequence[float], share: float) -> float:
    """Return the nearest-rank quantile of some seconds, in milliseconds."""
    return round((quantile(list(spent_s), share) or 0.0) * 1e3, 3)
