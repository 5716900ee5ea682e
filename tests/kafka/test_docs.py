"""The lines that the README shows for a cluster, run on a real broker."""

from dataclasses import replace
from pathlib import Path

from schemas.kafka import KafkaSettings
from tests.conftest import ROOT
from tests.docs.blocks import find_blocks, run

SHOWN = "kafka:9092"
"""The broker that the README names; the test puts the settings of its own in its place."""
RUNS = "firstfault run "
"""For ever, as shown; here each one ends by itself before the next line."""


def test_what_the_readme_shows_of_kafka_is_what_happens(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    settings = tmp_path / "kafka.yaml"
    settings.write_text(f"bootstrap: {kafka.bootstrap}\nprefix: {kafka.prefix}\n")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    shown = find_blocks("README.md", (ROOT / "README.md").read_text(encoding="utf-8"))
    blocks = [block for block in shown if "kafka" in block.options]
    assert any(RUNS in line for block in blocks for line in block.lines)
    for block in blocks:
        lines = tuple(
            line.replace(SHOWN, str(settings)).replace(RUNS, f"{RUNS}--for 8s ")
            for line in block.lines
        )
        run(replace(block, lines=lines), tmp_path, frozenset())
