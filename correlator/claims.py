"""What a scenario claims, held against the story of what happened. Pure.

Keeps: I1 (no evacuation before its host, in its present life, is proven fenced) and I6 (no
incident sends an action twice under one epoch) are asked of every story, whatever it claims.
Called by ``correlator/corpus.py``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from correlator.scenarios import Entry, matches
from correlator.topology import Topology
from schemas.base import kind_of
from schemas.corpus import Claim, Scenario
from schemas.inputs import Pulse, Result, TopologyDelta
from schemas.outputs import Action, Decision, Incident, Output

SETTLED = frozenset({"CONFIRMED", "FAILED", "TIMED_OUT", "REJECTED", "UNKNOWN"})
"""Results after which nothing more comes of an action."""
PROOFS = frozenset({"OFF", "BLOCKED", "DOWN", "ELAPSED", "DUMPING"})
"""What an actuator has observed of a host that no longer writes (action contract)."""


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that happened while a scenario was played."""

    at_us: int
    what: Entry | Output | Result
    note: str = ""
    """What noise did to it, e.g. ``lost``."""
    sent: Action | None = None
    """Of a result: the action it answers."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one claim holds."""

    kind: str
    """``expect``, ``forbid``, ``incidents`` or ``always``."""
    text: str
    failure: str = ""
    """What was there instead; empty where the claim holds."""
    pending: str | None = None
    """What is missing for it to hold."""


Story = tuple[Told, ...]
AS_BEFORE = "as before"
"""Note of a result that an actuator has given before, for the same key."""


def verdicts(
    scenario: Scenario, story: Story, slack_us: int, topology: Topology
) -> Iterator[Verdict]:
    """Yield the verdict on each claim; noise may delay what is expected by `slack_us`."""
    for claim in scenario.expect:
        yield Verdict("expect", wish(claim), _missed(claim, story, slack_us), claim.pending)
    for claim in scenario.forbid:
        yield Verdict("forbid", wish(claim), _broken(claim, story), claim.pending)
    if scenario.incidents is not None:
        text = f"exactly {scenario.incidents.exactly} incidents"
        if scenario.incidents.root is not None:
            text += f", caused by {', '.join(scenario.incidents.root)}"
        yield Verdict("incidents", text, _miscounted(scenario, story), scenario.incidents.pending)
    yield from _always(story, topology)


def wish(claim: Claim) -> str:
    """Return a claim as its author wrote it."""
    parts = claim.model_dump(exclude_defaults=True, exclude={"pending"})
    parts |= {name: f"{parts[name]:g}s" for name in ("by", "since") if name in parts}
    shown = {k: " ".join(map(str, v)) if isinstance(v, list) else v for k, v in parts.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _in_time(claim: Claim, told: Told, slack_us: int) -> bool:
    since_us = round((claim.since or 0) * 1e6)
    by_us = None if claim.by is None else round(claim.by * 1e6) + slack_us
    return told.at_us >= since_us and (by_us is None or told.at_us <= by_us)


def _is_meant(claim: Claim, told: Told) -> bool:
    """Claim that a claim speaks of this, whenever it was."""
    what = told.what
    if isinstance(what, Action):
        return claim.action is not None and what.verb in claim.action and _fits(claim, what)
    if isinstance(what, Decision):
        return what.reason == claim.reason and _aims_at(claim, what.entity)
    return isinstance(what, Incident) and _speaks_of_incidents(claim) and _is_so(claim, what)


def _speaks_of_incidents(claim: Claim) -> bool:
    return claim.action is None and claim.reason is None


def _aims_at(claim: Claim, entity: str) -> bool:
    return claim.target is None or any(matches(pattern, entity) for pattern in claim.target)


def _fits(claim: Claim, action: Action) -> bool:
    given = action.parameters
    return (
        _aims_at(claim, action.target)
        and claim.method in (None, method_of(action))
        and _leads_to(claim, action)
        and all(fnmatchcase(given.get(k, ""), v) for k, v in claim.parameters.items())
    )


def _leads_to(claim: Claim, action: Action) -> bool:
    host = action.placement.destination if action.placement else ""
    return claim.to is None or any(matches(pattern, host) for pattern in claim.to)


def _is_so(claim: Claim, incident: Incident) -> bool:
    cause = incident.causes[0]
    return (
        (claim.root is None or matches(claim.root, cause.entity))
        and claim.signature in (None, cause.signature)
        and incident.confidence >= (claim.confidence or 0.0)
        and claim.state in (None, incident.state)
    )


def _missed(claim: Claim, story: Story, slack_us: int) -> str:
    """Return what was there in place of what is expected; nothing where it is met."""
    meant = [(n, told) for n, told in enumerate(story) if _is_meant(claim, told)]
    found = [(n, told) for n, told in meant if _in_time(claim, told, slack_us)]
    hit = [_target(told) for _, told in found]
    lacking = [p for p in claim.target or [] if not any(matches(p, one) for one in hit)]
    if not found or lacking:
        late = ", ".join(sorted({_shown(told) for _, told in meant}))
        return f"there was {late or _instead(claim, story)}"
    if claim.times not in (None, len(meant)):
        return f"it came {len(meant)} times"
    effects = {t.what.idempotency_key for _, t in meant if isinstance(t.what, Action)}
    if claim.effects not in (None, len(effects)):
        return f"it was {len(effects)} effects"
    for moment, wanted in ((claim.after, True), (claim.before, False)):
        wrong = [t for n, t in found if moment and has_come(moment, story[:n]) != wanted]
        if wrong:
            return f"{'before' if wanted else 'after'} it came {_shown(wrong[0])}"
    return ""


def _broken(claim: Claim, story: Story) -> str:
    """Return what happened though it must never, or nothing."""
    for number, told in enumerate(story):
        if not _is_meant(claim, told) or not _in_time(claim, told, 0):
            continue
        if claim.before and has_come(claim.before, story[:number]):
            continue
        if claim.after and not has_come(claim.after, story[:number]):
            continue
        return f"there was {_shown(told)}"
    return ""


def has_come(moment: str, story: Story) -> bool:
    """Claim that a `Moment` had come when a story had got so far."""
    name, _, pattern = moment.partition(" ")
    verb, _, state = name.partition(".")

    def meant(action: Action | None) -> bool:
        return action is not None and action.verb == verb and matches(pattern or "*", action.target)

    sent = [t.what for t in story if isinstance(t.what, Action) and meant(t.what)]
    if state == "SENT":
        return bool(sent)
    results = [t.what for t in story if isinstance(t.what, Result) and meant(t.sent)]
    if state == "TERMINAL":
        ended = {one.idempotency_key for one in results if one.state in SETTLED}
        return all(action.idempotency_key in ended for action in sent)
    return any(one.state == state for one in results)


def _target(told: Told) -> str:
    what = told.what
    if isinstance(what, Action):
        return what.target
    return what.entity if isinstance(what, Decision) else ""


def _shown(told: Told) -> str:
    """Return what was told in a few words, with its second."""
    what = told.what
    if isinstance(what, Incident):
        cause = what.causes[0]
        sure = f"{what.confidence:.3f}, {what.state}"
        return f"{cause.signature} of {cause.entity} ({sure}) at {told.at_us / 1e6:.3f}s"
    word = what.verb if isinstance(what, Action) else getattr(what, "reason", "")
    return f"{word} {_target(told)} at {told.at_us / 1e6:.3f}s"


def _instead(claim: Claim, story: Story) -> str:
    """Return what else there was of the kind that was expected."""
    if claim.action is not None:
        verbs = sorted({t.what.verb for t in story if isinstance(t.what, Action)})
        return f"no such action, only {', '.join(verbs)}" if verbs else "no action"
    if claim.reason is not None:
        reasons = sorted({t.what.reason for t in story if isinstance(t.what, Decision)})
        return f"no such decision, only {', '.join(reasons)}" if reasons else "no decision"
    shown = sorted({_shown(told) for told in story if isinstance(told.what, Incident)})
    return ", ".join(shown) or "no incident"


def final_roots(story: Story) -> dict[str, str]:
    """Return incident → the cause named last, without those that became part of another."""
    merged = {
        (t.at_us, t.what.entity)
        for t in story
        if isinstance(t.what, Decision) and t.what.reason == "merged"
    }
    last: dict[str, str] = {}
    for told in story:
        if isinstance(told.what, Incident):
            root = told.what.causes[0].entity
            last[told.what.incident_id] = root
            if told.what.state == "cleared" and (told.at_us, root) in merged:
                del last[told.what.incident_id]
    return last


def _miscounted(scenario: Scenario, story: Story) -> str:
    wanted = scenario.incidents
    roots = sorted(final_roots(story).values())
    if wanted is None or len(roots) != wanted.exactly:
        return f"there was {len(roots)}: {', '.join(roots) or 'none'}"
    patterns = wanted.root or ["*"]
    odd = [root for root in roots if not any(matches(p, root) for p in patterns)]
    odd += [p for p in patterns if roots and not any(matches(p, root) for root in roots)]
    return f"there was {', '.join(roots)}" if odd else ""


def _always(story: Story, topology: Topology) -> Iterator[Verdict]:
    """What must hold of every scenario: I1 and I6."""
    keys: set[tuple[str, str, int]] = set()
    unfenced = twice = ""
    for number, told in enumerate(story):
        action = told.what
        if not isinstance(action, Action) or action.mode == "dry_run":
            continue
        key = (action.incident_id, action.idempotency_key, action.epoch)
        twice = twice or (_shown(told) if key in keys else "")
        keys.add(key)
        if action.verb == "evacuate_vm" and not _is_fenced(action.target, story[:number], topology):
            unfenced = unfenced or _shown(told)
    yield Verdict("always", "no evacuation before its host is proven fenced (I1)", unfenced)
    yield Verdict("always", "no incident sends an action twice (I6)", twice)


def _is_fenced(vm: str, story: Story, topology: Topology) -> bool:
    return any(_proven(host, story) for host in _hosts(vm, story, topology))


def _hosts(vm: str, story: Story, topology: Topology) -> list[str]:
    """Return where a VM is, as a story has told last."""
    hosts = [one for one in topology.dependencies(vm) if kind_of(one) == "host"]
    for told in story:
        for given in told.what.inputs if isinstance(told.what, Entry) else ():
            if isinstance(given, TopologyDelta) and (given.from_, given.relation) == (
                vm,
                "hosted_by",
            ):
                hosts = [] if given.op == "remove_edge" else [str(given.to)]
    return hosts


def _proven(host: str, story: Story) -> bool:
    """Claim that a host was seen not to write, and that no boot of it was seen since."""
    boot, proven = "", False
    for told in story:
        given = told.what.inputs if isinstance(told.what, Entry) else ()
        for pulse in given:
            if isinstance(pulse, Pulse) and pulse.host == host and pulse.boot_id:
                proven = proven and boot in ("", pulse.boot_id)
                boot = pulse.boot_id
        proven = proven or _proves(host, told)
    return proven


def _proves(host: str, told: Told) -> bool:
    """Claim that this is the proof of a fence; of a stored one, it was proven before."""
    result, action = told.what, told.sent
    if not isinstance(result, Result) or action is None or told.note == AS_BEFORE:
        return False
    is_meant = (action.verb, action.target) == ("fence", host)
    is_seen = result.proof.get("observed_state") in PROOFS
    return is_meant and is_seen and result.state == "CONFIRMED"


def method_of(action: Action) -> str | None:
    """Return the method an action is to be carried out by, where it names one."""
    return action.method or None
