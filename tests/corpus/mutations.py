"""Guards and duties of the engine switched off one by one, and the scenario that finds each out.

``python -m tests.corpus.mutations`` plays every scenario without each of them and prints which
ones break; ``--only NAME`` asks about one. Guards are read from `correlator.guards` as it runs, so
a new one is asked for its scenario too: one that no scenario needs is superfluous, or untested.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from correlator import engine, guards, results
from correlator.corpus import Played, play
from correlator.domain import Domain
from correlator.rules import RuleSet, load_pack
from correlator.rules.settings import Book, effective
from correlator.scenarios import Loaded, load_corpus
from correlator.state import EngineState
from firstfault.packs import find_pack
from schemas.inputs import Result

FOLDER = Path(__file__).parent
TABLES = sorted(name for name in vars(guards) if name.endswith("_GUARDS"))
"""Tuples of guards, each asked about something else; one guard may be in some of them."""
CORE = "correlator."
"""How the names of the engine's modules begin."""
Switch = Callable[[pytest.MonkeyPatch], None]
"""Leaves something out of the engine while the patch lasts."""

FOUND_BY = {
    # guards
    "confidence": "C05-one-hint",
    "rejected": "C01-rejected",
    "structure": "X09-last-member-flaps",
    "proof": "C01-host-power-loss",
    "still_moving": "X06-unfence-comes-last",
    "fleet_share": "X12-slow-cascade",
    "budget": "C01-budget",
    "only_suspected": "C10-careless-policy",
    "unapproved": "C01-needs-approval",
    "held": "C01-held-by-operator",
    "stream_gap": "X02-gap-during-host-loss",
    "speaks_again": "X22-answers-in-a-hold",
    "one_witness": "X01-one-liar",
    "one_plane": "C03-all-told-over-management",
    "failure_group": "X13-storm-ends",
    "too_young": "C12c-one-host-first",
    "one_at_a_time": "X11-one-fence-at-a-time",
    "opted_out": "X16-what-vms-want",
    "stopped_by_user": "X16-what-vms-want",
    "maintenance": "C18-storage-lost-in-maintenance",
    "unsure": "C10-one-kind-of-silence",
    "speaks_now": "X22-its-collector-is-heard",
    "shared_cause": "C14-hot-rack-host-dies",
    "silent_neighbour": "X21-neighbour-unexplained",
    "carries_us": "C01-carries-the-broker",
    "other_owner": "C01-another-owner",
    "not_its_way": "X16-class-says-how",
    "region_asked": "C12b-pool-shared-with-others",
    "owner_holds": "C09-owner-silent",
    "no_destination": "X17-anti-affinity-pair",
    "net_is_moving": "C17-host-dead",
    "cooling_down": "X13-storm-ends",
    "soaking": "X06-returns-mid-evacuation",
    "not_rebooted": "C02b-kept-from-its-disks",
    "too_often": "C09-crashes-for-ever",
    "dumping": "C02a-dump-proves-nothing",
    "no_dump": "C02a-no-dump",
    # duties
    "revoke": "C10-its-host-dies-too",
    "send_again": "X04-old-owner-publishes-late",
    "generation": "X05-dies-again",
    "prevented": "X05-reboots-before-fence",
    "priority": "X16-priority-first",
    "tokens": "C01-many-vms",
}
"""Guard or duty → the scenario that breaks without it."""


def switches() -> dict[str, Switch]:
    """Return everything that can be switched off, by its name."""
    names = sorted({one.__name__ for table in TABLES for one in getattr(guards, table)})
    return {name: _without(name) for name in names} | DUTIES


def _without(name: str) -> Switch:
    def switch(patch: pytest.MonkeyPatch) -> None:
        for table in TABLES:
            left = tuple(one for one in getattr(guards, table) if one.__name__ != name)
            patch.setattr(guards, table, left)

    return switch


# ---- duties --------------------------------------------------------------------------------


def _everywhere(patch: pytest.MonkeyPatch, name: str, instead: Callable[..., object]) -> None:
    """Replace a function of the engine in every module that calls it."""
    core = [module for where, module in sorted(sys.modules.items()) if where.startswith(CORE)]
    holders = [module for module in core if callable(getattr(module, name, None))]
    assert holders, name
    for module in holders:
        patch.setattr(module, name, instead)


def _revoke(patch: pytest.MonkeyPatch) -> None:
    """What was sent for a cause that is no longer believed goes on."""
    _everywhere(patch, "revoke", lambda domain, incident: None)


def _send_again(patch: pytest.MonkeyPatch) -> None:
    """A new owner does not ask again for what is still waited for."""
    _everywhere(patch, "send_again", lambda domain: None)


def _generation(patch: pytest.MonkeyPatch) -> None:
    """Every life of a host or VM has the same idempotency keys."""
    patch.setattr(EngineState, "next_generation", lambda state, entity: None)


def _prevented(patch: pytest.MonkeyPatch) -> None:
    """What an actuator refuses since the world has moved on is tried by another method."""

    def take(domain: Domain, result: Result) -> None:
        proof = {k: v for k, v in result.proof.items() if k != "precondition"}
        results.take_result(domain, result.model_copy(update={"proof": proof}))

    patch.setitem(engine._TAKES, Result, take)  # noqa: SLF001 - what a step does with an input


def _priority(patch: pytest.MonkeyPatch) -> None:
    """All workloads have their turn together."""
    patch.setattr(Book, "of", lambda book, entity: effective((), entity))


def _tokens(patch: pytest.MonkeyPatch) -> None:
    """Any number of workloads is recovered at once."""
    _everywhere(patch, "_as_many", lambda step, targets: targets)


DUTIES: dict[str, Switch] = {
    "revoke": _revoke,
    "send_again": _send_again,
    "generation": _generation,
    "prevented": _prevented,
    "priority": _priority,
    "tokens": _tokens,
}
"""Duties of the planner, and how each is left undone."""


# ---- asking --------------------------------------------------------------------------------


def harm(played: Played) -> set[tuple[str, str]]:
    """Return the claims that are broken by what was done; what was merely said does not count."""
    claims = (*played.scenario.expect, *played.scenario.forbid)
    said = [claim.reason is not None for claim in claims]
    said += [False] * (len(played.verdicts) - len(said))
    return {
        (verdict.kind, verdict.text)
        for is_said, verdict in zip(said, played.verdicts, strict=True)
        if verdict.failure and verdict.pending is None and not is_said
    }


def finds(loaded: Loaded, switch: Switch, rules: RuleSet) -> set[tuple[str, str]]:
    """Return the claims that a scenario keeps with something and breaks without it."""
    return harm(without(switch, loaded, rules)) - harm(play(loaded, rules))


def without(switch: Switch, loaded: Loaded, rules: RuleSet) -> Played:
    """Return how a scenario goes, without noise, while something is left out."""
    with pytest.MonkeyPatch.context() as patch:
        switch(patch)
        return play(loaded, rules)


def main(arguments: list[str] | None = None) -> int:
    """Print which scenarios break without each guard and duty; return 1 where none does."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus.mutations", description=__doc__)
    parser.add_argument("--only", metavar="NAME", help="one guard or duty (default: all)")
    given = parser.parse_args(arguments)
    rules = load_pack(find_pack("nfvi"))
    corpus = load_corpus(FOLDER, rules)
    kept = {one.scenario.id: harm(play(one, rules)) for one in corpus}
    unfound = 0
    for name, switch in switches().items():
        if given.only in (None, name):
            broken = ((one.scenario.id, harm(without(switch, one, rules))) for one in corpus)
            hit = [scenario for scenario, claims in broken if claims - kept[scenario]]
            unfound += not hit
            sys.stdout.write(f"{name:<16}{len(hit):>3}  {', '.join(hit[:3]) or 'NONE'}\n")
            sys.stdout.flush()
    return 1 if unfound else 0


if __name__ == "__main__":
    sys.exit(main())
