"""Fixed worlds, kept ones, and worlds with a guard switched off, which must be found out."""

from dataclasses import asdict

import pytest

from tests.simulation.__main__ import main, report, summary
from tests.simulation.kept import FIXED, KEPT, Kept
from tests.simulation.mutations import MUTATIONS, Mutation, switched_off
from tests.simulation.run import run

SEEDS_FOR_A_MUTATION = 60


@pytest.mark.parametrize("seed", FIXED)
def test_a_world_keeps_every_invariant(seed: int) -> None:
    outcome = run(seed)
    assert not outcome.violations, report(outcome)
    assert outcome.simulated_s >= 300
    assert len(outcome.faults) >= 3


@pytest.mark.parametrize("kept", [pytest.param(one, id=f"seed {one.seed}") for one in KEPT])
def test_what_a_kept_seed_taught_is_not_forgotten(kept: Kept) -> None:
    outcome = run(kept.seed)
    assert not outcome.violations, f"{kept.taught}\n{report(outcome)}"


def test_a_seed_gives_the_same_run_again() -> None:
    assert asdict(run(3)) == asdict(run(3))


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_is_switched_off_is_found_out(name: str) -> None:
    mutation = MUTATIONS[name]
    assert any(_is_found(seed, mutation) for seed in range(1, SEEDS_FOR_A_MUTATION + 1))


def _is_found(seed: int, mutation: Mutation) -> bool:
    """Claim that a seed breaks with a mutation what it does not break without."""
    with switched_off(mutation):
        broken = _broken(seed, mutation, mutation.skips)
    if not broken & mutation.found_by:
        return False
    return bool((broken - _broken(seed, mutation, frozenset())) & mutation.found_by)


def _broken(seed: int, mutation: Mutation, skips: frozenset[str]) -> set[str]:
    return {violation.invariant for violation in run(seed, skips, mutation.more).violations}


def test_a_violation_is_told_with_its_seed_its_trace_and_its_command() -> None:
    mutation = MUTATIONS["the planner ignores what a step needs"]
    with switched_off(mutation):
        outcome = next(one for one in map(run, FIXED) if one.violations)
    text = report(outcome)
    assert f"--runs 1 --seed {outcome.seed}" in text
    assert "I1 at" in text
    assert "ACTION evacuate_vm" in text
    assert summary([outcome])["runs_with_violations"] == 1


def test_the_command_line_counts_what_it_ran(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs", "2", "--seed", "2"]) == 0
    assert "runs: 2" in capsys.readouterr().out
