"""What a consumer owes an action: to run it once, in time, for the owner that counts, or to say no.

Pure: `decide` weighs an action against what is known of it, and returns what is to be done; nothing
here reads a clock, a file or a log. Keeps: I6 (at most one effect per idempotency key), I7 (a stale
epoch has no effect), H12 and H18 (nothing runs late, an unknown end is not tried again).
Source: the action contract, "Actuator obligations".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from schemas.base import to_microseconds
from schemas.outputs import DESTRUCTIVE_VERBS, Action

SKEW_MAX_US = 1_000_000
"""A clock that is further off the log's is not trusted with what expires: the wire page."""
OVERDUE_US = 60_000_000
"""What expired so long ago gets no answer: whoever sent it has given it up (a first start reads all
that is kept)."""
LEASE_GRACE_US = 60_000_000
"""What an action may hold its target past its longest run: the contract, as in NHC."""
UNLOCKED_VERBS = frozenset({"notify", "page", "revoke"})
"""Verbs that neither wait for what runs on their target nor keep others from it."""
ACCEPTED_VERBS = DESTRUCTIVE_VERBS | {"unfence"}
"""Verbs that are answered ACCEPTED before they run: the stamp of that answer proves our clock."""

UNSURE = frozenset({"UNKNOWN", "TIMED_OUT"})
"""Ends of which it is not known whether there was an effect: asked about again, never tried."""

Ending = Literal["CONFIRMED", "FAILED", "TIMED_OUT", "UNKNOWN", "REJECTED"]


@dataclass(frozen=True)
class Outcome:
    """How an action ended, as a function that carries it out says it."""

    state: Ending
    proof: Mapping[str, Any] = field(default_factory=dict)
    """What was observed; of a fence e.g. method and observed_state."""


@dataclass(frozen=True)
class Known:
    """What is remembered that bears upon an action; see `Ledger.known`."""

    outcome: Outcome | None = None
    """How the same key ended before."""
    has_begun: bool = False
    """The same key was begun before, and how it ended is not known."""
    is_running: bool = False
    """It is being carried out here and now."""
    epoch: int = 0
    """The highest seen of its domain."""
    token: int = 0
    """The highest fence token seen of its target."""
    locked_until_us: int = 0
    """Until when another action has its target, by our clock; 0: none has."""


@dataclass(frozen=True)
class Self:
    """Who we are, and what may never be done by us."""

    name: str
    """Entity id that signs the results, e.g. actuator:mgmt-1."""
    stands_on: frozenset[str] = frozenset()
    """Entities whose end would be our own, e.g. host:mgmt-1: they are never our targets."""
    is_dry_run: bool = False
    """Nothing is carried out, whatever the mode of an action."""


@dataclass(frozen=True)
class Now:
    """The time, as far as it is known."""

    us: int
    """Our own clock, microseconds since 1970."""
    stamp_us: int = 0
    """When the log stamped the action."""
    skew_us: int | None = None
    """How far our clock was ahead of the log's at our own last append; None: never measured."""


Do = Literal["run", "answer", "ask", "leave"]
"""run: carry it out; answer: with the outcome; ask: find out how an earlier try ended; leave: it is
being carried out and will be answered, or nobody waits for an answer."""


@dataclass(frozen=True)
class Turn:
    """What is to be done about an action."""

    do: Do
    outcome: Outcome | None = None


def skew(before_us: int, stamp_us: int, after_us: int) -> int:
    """Return how far our clock is ahead of the log's, which stamped between two of our readings.

    >>> skew(10, 12, 14), skew(10, 3, 14), skew(10, 20, 14)
    (0, 7, -6)
    """
    return max(0, before_us - stamp_us) + min(0, after_us - stamp_us)


def decide(action: Action, known: Known, self: Self, now: Now, unmet: str = "") -> Turn:
    """Return what is to be done about an action.

    unmet: a precondition of it that does not hold, in words.
    """
    if known.is_running:
        return Turn("leave")
    if known.has_begun or (known.outcome is not None and known.outcome.state in UNSURE):
        return Turn("ask")
    if known.outcome is not None:
        return Turn("answer", known.outcome)
    reason = _refusal(action, known, self, now)
    if reason:
        is_overdue = now.us > us_of(action.expires_at) + OVERDUE_US
        return Turn("leave") if is_overdue else _refused(reason)
    return _refused("precondition", precondition=unmet) if unmet else Turn("run")


def _refused(reason: str, **more: str) -> Turn:
    return Turn("answer", Outcome("REJECTED", {"reason": reason, **more}))


def _refusal(action: Action, known: Known, self: Self, now: Now) -> str:
    """Return the first reason against an action, enumerated; '' if there is none."""
    reasons = {
        "stale_epoch": action.epoch < known.epoch,
        "stale_token": 0 < action.fence_token < known.token,
        "clock_skew": _is_clock_off(now),
        "expired": max(now.us, now.stamp_us) > us_of(action.expires_at),
        "own_target": action.verb in ACCEPTED_VERBS and action.target in self.stands_on,
        "dry_run": self.is_dry_run or action.mode == "dry_run",
        "locked": action.verb not in UNLOCKED_VERBS and now.us < known.locked_until_us,
    }
    return next((name for name, applies in reasons.items() if applies), "")


def _is_clock_off(now: Now) -> bool:
    """Claim that our clock is wrong; one behind the stamp of what we read must be."""
    return abs(now.skew_us or 0) > SKEW_MAX_US or now.us < now.stamp_us - SKEW_MAX_US


def lease_us(action: Action) -> int:
    """Return how long an action holds its target at most, microseconds."""
    return round(action.max_runtime_s * 1e6) + LEASE_GRACE_US


def us_of(moment: str) -> int:
    """Return microseconds since 1970 of a time of an action.

    >>> us_of("1970-01-01T00:00:01Z")
    1000000
    """
    return to_microseconds(datetime.fromisoformat(moment))
