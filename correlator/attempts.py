"""What was tried of a step on a target, what came of it, and what may be tried next. Pure.

A fence is a ladder: each method has its turn when those before gave no proof. Of a workload it
must be known that an attempt failed: a start that may be under way is no failure (I2).
"""

from collections import Counter

from correlator.actions import key_of
from correlator.guards import against_method
from correlator.plans import FINAL, TELLING, PlannedStep, Reason, attempts, tried
from correlator.state import Sent
from schemas.outputs import WORKLOAD_VERBS, OnTimeout

FAILED = frozenset({"FAILED", "TIMED_OUT", "REJECTED", "UNKNOWN"})
"""An attempt that ended without its effect being proven: the next method has its turn."""
KNOWN = frozenset({"FAILED"})
"""An attempt of which the actuator itself says that it had no effect."""
RESTARTING = frozenset({"restart_process"})
"""Verbs that are tried as often, and as far apart, as the limits say."""


def last_of(step: PlannedStep, target: str) -> Sent | None:
    """Return the last attempt that was not taken back."""
    done = _done(step, target)
    return done[-1] if done else None


def _done(step: PlannedStep, target: str) -> list[Sent]:
    """Return the attempts that count for a step: of what tells, those of the step alone."""
    done = tried(step.plan.incident, step.verb, target)
    return [one for one in done if step.verb not in TELLING or one.step == step.number]


def may_try(step: PlannedStep, target: str) -> bool:
    """Claim that nothing was tried, or that what was has ended without effect; and more may be."""
    last = last_of(step, target)
    return last is None or (_has_ended_in_vain(step, last) and bool(_left(step, target)))


def is_settled(step: PlannedStep, target: str) -> bool:
    """Claim that nothing more will be tried, and what was tried has ended."""
    last = last_of(step, target)
    return last is not None and last.state in FINAL and not may_try(step, target)


def has_failed(step: PlannedStep, target: str) -> bool:
    """Claim that everything was tried in vain."""
    last = last_of(step, target)
    return last is not None and _has_ended_in_vain(step, last) and not _left(step, target)


def next_method(step: PlannedStep, target: str) -> tuple[str, Reason | None]:
    """Return the method whose turn it is, or the first reason against those that are left.

    An empty method leaves the choice to the actuator.
    """
    reasons = []
    for method in _left(step, target):
        reason = against_method(step, target, method) if step.verb == "fence" else None
        if reason is None:
            return method, None
        reasons.append(reason)
    return "", min(reasons, key=lambda one: one.verdict != "wait")


def next_us(step: PlannedStep, target: str) -> int:
    """Return the live time from which the next attempt may leave."""
    last = last_of(step, target)
    return 0 if last is None else last.ended_us + round(_every(step) * 1e6)


def on_timeout(step: PlannedStep, target: str) -> OnTimeout:
    """Return what will follow where the attempt that leaves now is never answered."""
    if step.verb in WORKLOAD_VERBS:
        return "none"
    left = len(_left(step, target)) > 1
    if step.verb == "fence":
        return "next_method" if left else "page"
    return "retry" if left else "none"


def best_proof(step: PlannedStep, target: str) -> tuple[str, str]:
    """Return (key, state) of the attempt that is CONFIRMED, else of the last.

    A fence proves something of one life of its target (I1); what else was done stays done.
    """
    done = attempts(step.plan.incident, step.verb, target)
    keys = [key_of(step, step.verb, target, number) for number in range(len(done))]
    pairs = zip(done, keys, strict=True)
    now = [sent for sent, key in pairs if sent.key == key or step.verb != "fence"]
    confirmed = [sent for sent in now if sent.state == "CONFIRMED"]
    if now:
        best = (confirmed or now)[-1]
        return best.key, best.state
    return key_of(step, step.verb, target, 0), "not sent"


def _has_ended_in_vain(step: PlannedStep, last: Sent) -> bool:
    return last.state in (KNOWN if step.verb in WORKLOAD_VERBS else FAILED)


def _left(step: PlannedStep, target: str) -> list[str]:
    """Return the methods that are left, the next one first; each has one turn in each round."""
    rounds = 1 + step.plan.incident.retries
    done = Counter(sent.method for sent in _done(step, target))
    if not step.body.methods:
        return [""] * (_tries(step) * rounds - done.total())
    left = [method for method in step.body.methods if done[method] < rounds]
    return sorted(left, key=lambda method: done[method])


def _tries(step: PlannedStep) -> int:
    limits = step.plan.domain.rules.limits
    default = limits.workload_tries if step.verb in WORKLOAD_VERBS else 1
    default = limits.restart_tries if step.verb in RESTARTING else default
    return default if step.body.tries is None else step.body.tries


def _every(step: PlannedStep) -> float:
    limits = step.plan.domain.rules.limits
    default = limits.restart_every if step.verb in RESTARTING else 0.0
    return default if step.body.every is None else step.body.every
