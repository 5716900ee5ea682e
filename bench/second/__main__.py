"""`python -m bench.second storm DIR --variant hard --seed 3`: write one set."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.second.storm import VARIANTS, make, write


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a set; the same variant and seed give the same bytes."""
    parser = argparse.ArgumentParser(prog="python -m bench.second", description="Make storms.")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("storm", help="write a recording folder with its truth")
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument("--variant", choices=VARIANTS, default="lossy")
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--faults", type=int, metavar="N", help="the first N only")
    options = parser.parse_args(arguments)
    storm = make(options.variant, options.seed, options.faults)
    write(storm, options.folder)
    print(f"{len(storm.arrivals)} events, {len(storm.faults)} faults in {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
