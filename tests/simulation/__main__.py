"""``python -m tests.simulation --runs N --seed S``: many runs, and what they found."""

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from rich.console import Console
from rich.progress import track

from tests.simulation.run import Outcome, run

PROCESSES = 2
SHOWN = 5
DAY_S = 86_400
SEEDS_A_DAY = 100_000


def outcomes(seeds: range, jobs: int, console: Console) -> Iterator[Outcome]:
    """Yield what comes of each seed, in order, with a bar that shows how far it is."""
    with multiprocessing.Pool(jobs) as pool:
        done = pool.imap(run, seeds, chunksize=4)
        yield from track(done, "simulating", total=len(seeds), console=console)


def until(found: Iterable[Outcome], minutes: float | None) -> Iterator[Outcome]:
    """Yield outcomes until the time is over."""
    end = None if minutes is None else time.monotonic() + 60 * minutes
    for outcome in found:
        yield outcome
        if end is not None and time.monotonic() > end:
            return


def summary(found: list[Outcome]) -> dict[str, object]:
    """Return the figures of all runs."""
    actions, refusals, broken = Counter[str](), Counter[str](), Counter[str]()
    for outcome in found:
        actions.update(outcome.actions)
        refusals.update(outcome.refusals)
        broken.update({violation.invariant for violation in outcome.violations})
    return {
        "runs": len(found),
        "first_seed": min((outcome.seed for outcome in found), default=None),
        "simulated_s": round(sum(outcome.simulated_s for outcome in found)),
        "steps": sum(outcome.steps for outcome in found),
        "inputs": sum(outcome.records for outcome in found),
        "faults": sum(len(outcome.faults) for outcome in found),
        "faults_least": min((len(outcome.faults) for outcome in found), default=0),
        "actions": dict(sorted(actions.items())),
        "effects": sum(outcome.effects for outcome in found),
        "refused_by_actuator": dict(sorted(refusals.items())),
        "runs_with_violations": sum(bool(outcome.violations) for outcome in found),
        "violations": dict(sorted(broken.items())),
    }


def report(outcome: Outcome) -> str:
    """Return what a person needs to follow a violation."""
    lines = [f"seed {outcome.seed}: {', '.join(outcome.faults)}"]
    lines += [f"  {v.invariant} at {v.at_s:.3f} s: {v.text}" for v in outcome.violations]
    lines += ["  what led to the first:", *(f"  {line}" for line in outcome.trace)]
    again = f"python -m tests.simulation --runs 1 --seed {outcome.seed}"
    return "\n".join([*lines, f"  again: {again}"])


def seed_of(text: str) -> int:
    """Return a seed; `today` gives every day worlds of its own, far from those of another day."""
    if text != "today":
        return int(text)
    return int(time.time() // DAY_S) * SEEDS_A_DAY


def main(arguments: list[str] | None = None) -> int:
    """Run the simulations that the command line asks for; return 1 where one found something."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="how many (default: 100)")
    parser.add_argument(
        "--seed", type=seed_of, default=1, help="of the first run, or `today` (default: 1)"
    )
    parser.add_argument("--minutes", type=float, help="stop after so long, whatever is left")
    parser.add_argument("--jobs", type=int, default=PROCESSES, help="processes (default: 2)")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    given = parser.parse_args(arguments)
    seeds = range(given.seed, given.seed + given.runs)
    start, console = time.monotonic(), Console(stderr=True)
    console.print(f"seeds {seeds.start} to {seeds.stop - 1}", highlight=False)
    found = list(until(outcomes(seeds, given.jobs, console), given.minutes))
    figures = summary(found)
    bad = [outcome for outcome in found if outcome.violations]
    if given.output == "json":
        figures["found"] = [asdict(outcome) for outcome in bad]
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    else:
        rate = len(found) / (time.monotonic() - start)
        lines = [report(outcome) for outcome in bad[:SHOWN]]
        if len(bad) > SHOWN:
            lines.append("more: " + ", ".join(str(outcome.seed) for outcome in bad[SHOWN:]))
        lines += [f"{name}: {value}" for name, value in figures.items()]
        sys.stdout.write("\n".join([*lines, f"{rate:.1f} runs/s"]) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
