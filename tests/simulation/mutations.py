"""Guards and duties switched off one by one: proof that the oracles can find something.

A mutation either takes a guard out of the engine's tuples or lets the actuator skip a duty. The
table says which invariants may be the ones that notice.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from correlator import guards, planner

RETURNING = ("still_moving", "soaking", "not_rebooted")
"""What an unfence waits for."""
TUPLES = ("PLAN_GUARDS", "STEP_GUARDS", "DESTRUCTIVE_GUARDS", "TARGET_GUARDS", "RETURN_GUARDS")


@dataclass(frozen=True, slots=True)
class Mutation:
    """Something that is left out, and who should notice."""

    guards: tuple[str, ...] = ()
    """Functions of `correlator.guards`."""
    skips: frozenset[str] = frozenset()
    """Duties of the actuator: dedupe, epoch, expiry, preconditions, needs; of a worker: memory."""
    found_by: frozenset[str] = frozenset()
    silent: tuple[str, ...] = ()
    """Functions of `correlator.planner` that do nothing."""
    more: tuple[str, ...] = ()
    """Faults added to every run, by name: the guard is for them."""


MUTATIONS: dict[str, Mutation] = {
    "the planner ignores what a step needs": Mutation(
        guards=("proof",), found_by=frozenset({"I1"})
    ),
    "the planner and the actuator ignore it": Mutation(
        guards=("proof",), skips=frozenset({"needs"}), found_by=frozenset({"I1", "I2"})
    ),
    "the planner ignores a hold": Mutation(
        guards=("held",), found_by=frozenset({"I4"}), more=("hold", "hold")
    ),
    "the planner ignores a gap": Mutation(
        guards=("stream_gap",), found_by=frozenset({"I4"}), more=("log_outage", "log_outage")
    ),
    "one witness and one plane are enough": Mutation(
        guards=("one_witness", "one_plane", "speaks_now"),
        found_by=frozenset({"I3", "healthy"}),
        more=("liar", "collector_crash", "liar"),
    ),
    "any share of the fleet may be fenced": Mutation(
        guards=("fleet_share", "failure_group"), found_by=frozenset({"I5"})
    ),
    "opting out and users' stops are ignored": Mutation(
        guards=("opted_out", "stopped_by_user"),
        skips=frozenset({"preconditions"}),
        found_by=frozenset({"I9"}),
    ),
    "the planner ignores maintenance": Mutation(
        guards=("maintenance", "speaks_now"),
        skips=frozenset({"preconditions"}),
        found_by=frozenset({"I4"}),
        more=("maintenance", "maintenance"),
    ),
    "nobody is called when a plan waits": Mutation(
        silent=("_page", "_page_overdue"), found_by=frozenset({"I8"})
    ),
    "a successor forgets what its predecessor knew": Mutation(
        skips=frozenset({"memory"}), found_by=frozenset({"I11"}), more=("correlator_death",)
    ),
    "a host comes back while its VMs are moved": Mutation(
        guards=RETURNING, found_by=frozenset({"I12"})
    ),
    "the actuator ignores the epoch": Mutation(
        skips=frozenset({"epoch"}),
        found_by=frozenset({"I7"}),
        more=("correlator_death", "correlator_death", "correlator_death", "hold"),
    ),
    "the actuator does everything it is told again": Mutation(
        skips=frozenset({"dedupe"}), found_by=frozenset({"I6"})
    ),
}


@contextmanager
def switched_off(mutation: Mutation) -> Iterator[None]:
    """Take the guards of a mutation out of the engine while the context lasts."""
    before = {name: getattr(guards, name) for name in TUPLES if hasattr(guards, name)}
    spoke = {name: getattr(planner, name) for name in mutation.silent}
    try:
        for name, members in before.items():
            setattr(guards, name, tuple(one for one in members if not _is_off(one, mutation)))
        for name in spoke:
            setattr(planner, name, _nothing)
        yield
    finally:
        for name, members in before.items():
            setattr(guards, name, members)
        for name, function in spoke.items():
            setattr(planner, name, function)


def _nothing(*_: object) -> None:
    """Stand in for what is silenced."""


def _is_off(guard: Callable[..., object], mutation: Mutation) -> bool:
    return guard.__name__ in mutation.guards
