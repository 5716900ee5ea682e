"""The words of planning: a policy laid on an incident, its steps, and a reason against one.

Values only; what is decided with them is in `guards.py` and `planner.py`.
"""

from dataclasses import dataclass

from correlator.domain import Domain
from correlator.state import IncidentState, Sent
from schemas.outputs import Verb
from schemas.rules import Policy, Step

TELLING = frozenset({"notify", "page"})
"""Verbs whose every update is an effect of its own, and which nothing takes back."""
FINAL = frozenset(
    {"CONFIRMED", "FAILED", "TIMED_OUT", "REJECTED", "PREVENTED", "UNKNOWN", "REVOKED"}
)
"""States of an action after which nothing more comes of it."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why not, or not yet."""

    verdict: str
    """`wait` where it may pass by itself, else `refuse`."""
    code: str
    text: str
    again_us: int | None = None
    """Live time at which it is worth asking again; None where something else will ask."""
    page: bool = False
    """It has lasted too long: a person must decide."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A policy laid on an incident."""

    domain: Domain
    incident: IncidentState
    policy: Policy

    @property
    def root(self) -> str:
        """The entity that the incident names."""
        return self.incident.fault[1]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of a plan, with what it needs."""

    plan: Plan
    number: int
    verb: Verb
    body: Step
    targets: tuple[str, ...]
    proofs: tuple[tuple[str, str], ...] = ()
    """(idempotency key, state) of each action that must be CONFIRMED first."""
    unsettled: tuple[str, ...] = ()
    """Workloads of earlier steps of which it is not known yet where they will end."""


def attempts(incident: IncidentState, verb: str, target: str) -> list[Sent]:
    """Return what has left for a target by a verb, the first first."""
    places = incident.attempts.get(f"{verb} {target}", ())
    return [incident.sent[place] for place in places]


def tried(incident: IncidentState, verb: str, target: str) -> list[Sent]:
    """Return the attempts that were not taken back."""
    return [sent for sent in attempts(incident, verb, target) if sent.state != "REVOKED"]
