"""Every scenario of the corpus: told as its golden says, and true under noise.

``FIRSTFAULT_CORPUS_SEEDS=50`` plays them all under that many seeds; ``FIRSTFAULT_UPDATE=1``
writes the goldens anew.
"""

import os
from pathlib import Path

import pytest

from correlator.corpus import Played, play
from correlator.rules import RuleSet
from correlator.scenarios import Loaded
from firstfault.cli.corpus import scenario_text, status
from schemas.outputs import Action

FOLDER = Path(__file__).parent
GOLDEN = FOLDER / "golden"
SEEDS = int(os.environ.get("FIRSTFAULT_CORPUS_SEEDS", "3"))
NAMES = sorted(file.stem for file in FOLDER.glob("*.yaml"))


def _effects(played: Played) -> set[tuple[str, str]]:
    told = [one.what for one in played.story]
    return {(one.verb, one.target) for one in told if isinstance(one, Action)}


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_is_told_as_its_golden(
    corpus: dict[str, Loaded], nfvi: RuleSet, name: str
) -> None:
    played = play(corpus[name], nfvi)
    assert status(played) in ("ok", "pending"), scenario_text(played)
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("FIRSTFAULT_UPDATE"):
        file.write_text(scenario_text(played), encoding="utf-8")
    assert scenario_text(played) == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_holds_under_noise(corpus: dict[str, Loaded], nfvi: RuleSet, name: str) -> None:
    loaded = corpus[name]
    for seed in range(1, min(SEEDS, loaded.scenario.noise.seeds) + 1):
        played = play(loaded, nfvi, seed)
        assert not played.failed, scenario_text(played)


def test_what_is_doubled_and_reordered_is_decided_alike(
    corpus: dict[str, Loaded], nfvi: RuleSet
) -> None:
    loaded = corpus["X15-doubled-and-reordered"]
    as_written = _effects(play(loaded, nfvi))
    assert all(_effects(play(loaded, nfvi, seed)) == as_written for seed in range(1, SEEDS + 1))


ROWS = {
    *(f"C{n:02}" for n in range(1, 19) if n not in (2, 4, 12)),
    *("C02a", "C02b", "C04a", "C04b", "C12a", "C12b", "C12c"),
    *(f"X{n:02}" for n in range(1, 25)),
}
"""Rows of the failure matrix."""


def test_every_row_of_the_matrix_has_a_scenario() -> None:
    assert {name.partition("-")[0] for name in NAMES} == ROWS


def test_no_golden_is_left_of_a_scenario_that_is_gone() -> None:
    assert sorted(file.stem for file in GOLDEN.glob("*.txt")) == NAMES
