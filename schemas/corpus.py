"""The scenario of a corpus: what is injected, who answers, what must and must never follow.

A file people write: unknown keys are errors, every duration carries its unit, times count from
the scenario's own 0 s. Read and played by ``correlator/corpus.py``.
"""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from schemas.base import Duration, Share, Strict, parse_duration
from schemas.outputs import Verb
from schemas.rules import Knobs, Names, Policy, Settings

ResultState = Literal[
    "ACCEPTED", "REJECTED", "RUNNING", "CONFIRMED", "FAILED", "TIMED_OUT", "UNKNOWN"
]
_MOMENT = re.compile(
    rf"^({'|'.join(get_args(Verb))})\.(SENT|TERMINAL|{'|'.join(get_args(ResultState))})( \S+)?$"
)


def _moment(text: str) -> str:
    if not _MOMENT.match(text):
        msg = "write VERB.STATE [TARGET], for example fence.CONFIRMED host:h3"
        raise ValueError(msg)
    return text


Moment = Annotated[str, AfterValidator(_moment)]
"""``VERB.STATE [TARGET]``: when such an action left (SENT), was answered so, or, as TERMINAL,
while none that has left still waits for its last answer."""


def _signed_duration(text: object) -> float:
    if isinstance(text, str) and text.startswith(("+", "-")):
        return float(f"{text[0]}1") * parse_duration(text[1:])
    return parse_duration(text)


Offset = Annotated[float, BeforeValidator(_signed_duration)]
"""Seconds, either way; written with a unit (``+40s``, ``-90s``)."""

Verbs = Annotated[list[Verb], BeforeValidator(lambda v: v if isinstance(v, list) else [v])]
"""One verb or a list of them."""


class Answer(Strict):
    """What an actuator answers; the first whose verb, target and method fit is taken."""

    verb: Verb
    target: str = Field("*", description="pattern, e.g. host:h3 or vm:*; kind:!rest is all others")
    method: str | None = Field(None, description="e.g. bmc_off, where the action names one")
    reply: ResultState | Literal["silent"] = Field(
        "CONFIRMED", description="silent: no answer ever comes"
    )
    after: Duration = Field("1s", validate_default=True, description="from action to answer")
    proof: dict[str, Any] = Field(
        default_factory=dict, description="beside method and observed_at, e.g. observed_state: OFF"
    )
    times: int | None = Field(None, ge=1, description="so often; then a later one is taken")


class Noise(Strict):
    """What the way from the sources to the log does to the lines, under every seed but 0."""

    dup: Share = Field("5%", validate_default=True, description="of inputs arrive a second time")
    reorder: Duration = Field(
        "300ms", validate_default=True, description="each input is delayed by up to this"
    )
    drop: Share = Field(
        "1%", validate_default=True, description="of lines are lost; never one marked with !"
    )
    late: Duration = Field(
        "1s", validate_default=True, description="one line, another with each seed, is so late"
    )
    clock: Duration = Field(
        "40s",
        validate_default=True,
        description="the clock of one source, another with each seed, is off by up to this",
    )
    skew: dict[str, Offset] = Field(
        default_factory=dict,
        description="pattern of a source → how far its clock is off; under seed 0, too",
    )
    seeds: int = Field(50, ge=1, description="the scenario holds for 1 to this")


class Claim(Strict):
    """Something about what is said: one action, one incident or one decision."""

    by: Duration | None = Field(None, description="no later; noise may delay it by its own delays")
    since: Duration | None = Field(None, description="no earlier")
    action: Verbs | None = Field(None, min_length=1)
    target: Names | None = Field(None, description="patterns; kind:!rest is all others")
    method: str | None = Field(None, description="of the action, e.g. pdu_off")
    to: Names | None = Field(None, description="patterns; the host an action brings its target to")
    parameters: dict[str, str] = Field(default_factory=dict, description="name → pattern")
    times: int | None = Field(None, ge=1, description="exactly so often, in all")
    effects: int | None = Field(
        None, ge=1, description="exactly so many, what is sent again under the same key left out"
    )
    after: Moment | None = None
    before: Moment | None = None
    root: str | None = Field(None, description="pattern of the entity named as the cause")
    signature: str | None = None
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(None, description="at least")
    state: Literal["suspected", "open", "cleared"] | None = Field(None, description="of incidents")
    reason: str | None = Field(None, description="of a decision about the target, e.g. domain_hold")
    pending: str | None = Field(
        None, description="what is missing for it to hold; once it holds, the run fails"
    )

    @model_validator(mode="after")
    def _one_subject(self) -> "Claim":
        incident = any((self.root, self.signature, self.confidence, self.state))
        if sum((self.action is not None, self.reason is not None, incident)) != 1:
            msg = "speak of one thing: an action, a reason, or an incident (root, signature, …)"
            raise ValueError(msg)
        if self.action is None and _of_actions(self):
            msg = "method, to, parameters, times, effects, after and before belong to an action"
            raise ValueError(msg)
        if incident and self.target:
            msg = "an incident has a root, no target"
            raise ValueError(msg)
        return self


def _of_actions(claim: Claim) -> bool:
    how_often = (claim.times, claim.effects)
    rest = (claim.to, claim.parameters, claim.after, claim.before)
    return any((claim.method, *how_often, *rest))


class Incidents(Strict):
    """All incidents that are told, in the end."""

    exactly: int = Field(ge=0, description="how many, those that merged into another left out")
    root: Names | None = Field(None, description="their causes as named last, patterns")
    pending: str | None = Field(
        None, description="what is missing for it to hold; once it holds, the run fails"
    )


class Scenario(Strict):
    """One failure as a time line, and what must and must never be done about it."""

    id: str = Field(pattern=r"^[A-Z]\d\d[a-z]?-[a-z0-9-]+$", description="the file's name")
    row: str = Field(pattern=r"^[CX]\d\d[a-z]?$", description="of the failure matrix, e.g. C02b")
    title: str = Field(description="one sentence")
    topology: str | dict[str, Any] = Field(
        description="a file, relative to this one; short form; or nodes and edges"
    )
    mode: Literal["enforce", "dry_run", "approve"] = "enforce"
    settings: list[Settings] = Field(
        default_factory=list, description="what the site says of some VMs, after the pack's own"
    )
    engine: Knobs | None = Field(None, description="knobs that the site sets otherwise")
    policies: list[Policy] = Field(
        default_factory=list,
        description="what the site does otherwise, asked before the pack's own",
    )
    inject: str = Field(
        description="lines: TIME[!] [+LATE] [clear] SIGNAL ENTITY… [NAME=VALUE…], and commands"
    )
    actuators: list[Answer] = Field(
        default_factory=list, description="others confirm after 1 s, a fence with its proof"
    )
    noise: Noise = Field(default_factory=Noise)
    until: Duration | None = Field(None, description="its end; default: 30 s after the last line")
    expect: list[Claim] = Field(default_factory=list)
    forbid: list[Claim] = Field(min_length=1)
    incidents: Incidents | None = None

    @model_validator(mode="after")
    def _named_by_its_row(self) -> "Scenario":
        if not self.id.startswith(f"{self.row}-"):
            msg = "the id begins with the row"
            raise ValueError(msg)
        return self


__all__ = ["Answer", "Claim", "Incidents", "Moment", "Noise", "Scenario"]
