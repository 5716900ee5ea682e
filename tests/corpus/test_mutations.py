"""Each guard and each duty of the planner is needed by a scenario, which breaks without it."""

import pytest

from correlator import guards
from correlator.rules import RuleSet
from correlator.scenarios import Loaded
from tests.corpus.mutations import FOUND_BY, TABLES, finds, main, switches

SWITCHES = switches()


@pytest.mark.parametrize("name", SWITCHES)
def test_what_is_switched_off_is_found_out(
    corpus: dict[str, Loaded], nfvi: RuleSet, name: str
) -> None:
    assert finds(corpus[FOUND_BY[name]], SWITCHES[name], nfvi)


def test_no_scenario_is_named_for_what_is_gone() -> None:
    assert set(FOUND_BY) == set(SWITCHES)


def test_what_was_switched_off_is_on_again(corpus: dict[str, Loaded], nfvi: RuleSet) -> None:
    before = {table: getattr(guards, table) for table in TABLES}
    finds(corpus["C01-host-power-loss"], SWITCHES["proof"], nfvi)
    assert {table: getattr(guards, table) for table in TABLES} == before


def test_the_table_names_what_finds_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "one_plane"]) == 0
    assert "C03-all-told-over-management" in capsys.readouterr().out
