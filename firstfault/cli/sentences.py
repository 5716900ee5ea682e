"""What the engine said, as sentences for a reader; the same ones wherever it is told. Pure."""

from collections import Counter
from collections.abc import Iterator

from rich.markup import escape

from schemas.outputs import Action, Cause, Decision, Digest, Evidence, Incident, Output

ID_DIGITS = 8
"""Digits of an id that are shown: enough to name one of some thousand."""
ROLES = ("for", "late", "against", "missing")
_STATE = {"suspected": "yellow", "open": "red", "cleared": "green"}
_VERDICT = {"act": "bold cyan", "wait": "yellow", "refuse": "magenta", "note": "dim"}


def plain(text: str) -> str:
    r"""Return rich markup that shows a text and does nothing else.

    Names come from the log: neither markup nor the control codes of a terminal may act.

    >>> plain("vm:[red]\x1b[2J")
    'vm:\\[red]�[2J'
    """
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))


def short(identifier: str) -> str:
    """Return the digits of an id that are shown.

    >>> short("95f37ba6344f91c6a6aa88decc2e43ba")
    '95f37ba6'
    """
    return identifier[:ID_DIGITS]


def clock(moment: str) -> str:
    """Return the time of day of an RFC 3339 time, to milliseconds.

    >>> clock("2026-11-23T10:01:10.264000Z")
    '10:01:10.264'
    """
    return moment[11:23]


def cause_text(cause: Cause) -> str:
    """Return a cause in words.

    >>> cause_text(Cause(entity="rack:r1", signature="rack-power-loss", score=9.5))
    'rack-power-loss of rack:r1'
    """
    return f"{cause.signature} of {cause.entity}"


def evidence_text(evidence: list[Evidence]) -> str:
    """Return how many symptoms speak for a cause, against it, and so on."""
    counts: Counter[str] = Counter(one.role for one in evidence)
    return ", ".join(f"{counts[role]} {role}" for role in ROLES if counts[role]) or "none listed"


def confidence_text(confidence: float) -> str:
    """Return a confidence in words; it is never certain.

    >>> confidence_text(0.99998), confidence_text(0.543478)
    ('confidence over 0.999', 'confidence 0.543')
    """
    return "confidence over 0.999" if confidence > 0.999 else f"confidence {confidence:.3f}"  # noqa: PLR2004


def incident_text(incident: Incident, before: Incident | None = None) -> str:
    """Return what an incident's message says that the one before did not."""
    cause = cause_text(incident.causes[0])
    if incident.state == "cleared":
        return f"{cause} has ended"
    sure = confidence_text(incident.confidence)
    if len(incident.causes) > 1:
        sure += f", next {incident.causes[1].entity}"
    told = f"({sure}; symptoms: {evidence_text(incident.evidence)})"
    doubt = "perhaps " if incident.state == "suspected" else ""
    if before is not None and cause_text(before.causes[0]) != cause:
        return f"now {doubt}{cause}, no longer {cause_text(before.causes[0])} {told}"
    return f"{doubt}{cause} {told}"


def is_news(incident: Incident, before: Incident | None) -> bool:
    """Claim that a reader should hear of it: state, cause, runner-up or confidence is another."""
    if before is None or incident.state != before.state:
        return True
    named, known = (
        ([cause_text(cause) for cause in one.causes[:2]], round(one.confidence, 2))
        for one in (incident, before)
    )
    return named != known


def incident_title(incident: Incident) -> str:
    """Return an incident as one sentence, for a title."""
    doubt = "perhaps " if incident.state == "suspected" else ""
    cause = cause_text(incident.causes[0])
    since = f"{incident.onset_at[:10]} {clock(incident.onset_at)} UTC"
    return f"{doubt}{cause}, {confidence_text(incident.confidence)}, since {since}"


def _word(incident: Incident) -> str:
    if incident.state == "cleared":
        return "cleared"
    return "opened" if incident.update == 0 else "revised"


class TimeLine:
    """Turns outputs into a reader's lines; remembers what it said of each incident.

    An action is told by the decision to act, which has the reason; a revision only where it
    `is_news`; a digest is for programs. Records and JSON hold everything.
    """

    def __init__(self) -> None:
        self._day = ""
        self._known: dict[str, Incident] = {}

    def lines(self, log_at: str, output: Output) -> Iterator[str]:
        """Yield the lines (rich markup) for an output; none where it says nothing new."""
        if isinstance(output, Action | Digest):
            return
        line = self._incident(output) if isinstance(output, Incident) else decision_line(output)
        if line is None:
            return
        if log_at[:10] != self._day:
            self._day = log_at[:10]
            yield f"[bold]{self._day}[/bold] (UTC)"
        yield f"{clock(log_at)}  {line}"

    def _incident(self, incident: Incident) -> str | None:
        before = self._known.get(incident.incident_id)
        if not is_news(incident, before):
            return None
        self._known[incident.incident_id] = incident
        style = _STATE[incident.state]
        text = plain(incident_text(incident, before))
        word = f"[{style}]{_word(incident):<8}[/{style}]"
        return f"{word} [dim]{short(incident.incident_id)}[/dim]  {text}"


def decision_text(decision: Decision) -> str:
    """Return a decision in words that name what it is about."""
    about = "" if decision.entity in decision.text else f"{decision.entity}: "
    return about + decision.text


def decision_line(decision: Decision) -> str:
    """Return a decision (rich markup): verdict, incident, sentence, enumerated reason."""
    style = _VERDICT[decision.verdict]
    incident = short(decision.incident_id or "-")
    text = f"[{style}]{decision.verdict:<8}[/{style}] [dim]{incident:<{ID_DIGITS}}[/dim]  "
    return text + f"{plain(decision_text(decision))} [dim]({plain(decision.reason)})[/dim]"


def action_text(action: Action) -> str:
    """Return an action in words."""
    given = "".join(f" {name}={value}" for name, value in sorted(action.parameters.items()))
    return (
        f"{action.verb} {action.target}{given} ({action.mode}, policy {action.policy} "
        f"step {action.step}, until {clock(action.expires_at)})"
    )
