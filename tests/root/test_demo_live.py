"""The whole way on one machine: a cable is cut, its cause is found, and somebody is told."""

import asyncio
from pathlib import Path

from firstfault.live_demo import NAMESPACES, PREFIX, play


def test_a_cut_cable_is_one_incident_with_its_cause_and_a_notice(tmp_path: Path) -> None:
    moments = asyncio.run(play(tmp_path, lambda _: None))
    assert moments.incidents == 1
    assert moments.incident["causes"][0]["entity"] == "link:h1/e0"
    assert moments.incident["causes"][0]["signature"] == "link-cut"
    assert moments.incident["confidence"] >= 0.9
    assert (moments.action["verb"], moments.action["target"]) == ("notify", "link:h1/e0")
    order = [ms for ms, _ in moments.story()]
    assert order == sorted(order)
    assert order[0] > 0
    assert not list(NAMESPACES.glob(f"{PREFIX}-*"))
