"""The shipped packs on a labelled recording of a real test environment, where it is at hand.

The numbers of ip-core were estimated from this recording, so this guards against loss and proves
nothing; `python -m bench kddi` fits on four campaigns and scores the fifth.
"""

from pathlib import Path

import pytest

from correlator.importers import load_topology
from correlator.recording import open_recording
from correlator.replay import replay
from correlator.rules import load_pack
from correlator.score import histories, read_labels, score
from schemas.outputs import Incident

PACKS = Path(__file__).resolve().parents[2] / "rules"


@pytest.mark.parametrize(
    ("pack", "hit_at_1", "hit_at_3"),
    [pytest.param("ip-core", 0.66, 0.69), pytest.param("generic", 0.50, 0.62)],
)
def test_the_causes_of_a_real_recording_are_named(
    shared_data: Path, pack: str, hit_at_1: float, hit_at_3: float
) -> None:
    rules = load_pack(PACKS / pack)
    recording = open_recording(shared_data / "kddi-nfv-learn")
    assert recording.topology is not None
    assert recording.labels is not None
    topology, _ = load_topology(recording.topology, rules.schema)
    letters: list[object] = []
    said = list(replay(recording, topology, rules, letters.append))
    incidents = [(case, output) for case, _, output in said if isinstance(output, Incident)]
    figures = score(read_labels(recording.labels), histories(incidents), {})
    assert letters == []
    assert figures["hit_at_1"] >= hit_at_1
    assert figures["hit_at_3"] >= hit_at_3
    assert figures["hit_at_1"] < 0.72  # 28 % of the labels leave no event: more would be a leak.
