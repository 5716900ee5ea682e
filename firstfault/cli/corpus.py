"""``firstfault corpus``: play the scenarios of the failure matrix, and tell each as a time line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from correlator.claims import Told, Verdict
from correlator.corpus import Played, play
from correlator.rules import RuleSet, load_pack
from correlator.scenarios import Loaded, load_corpus
from firstfault.cli.sentences import decision_text, incident_text, is_news, plain
from firstfault.cli.terminal import (
    EXIT_DIFFERENT,
    BadInput,
    Commands,
    Format,
    Output,
    Rules,
    app,
    out,
    say_json,
)
from firstfault.packs import find_pack
from schemas.inputs import Result
from schemas.outputs import Action, Decision, Digest, Incident

FOLDER = Path("tests", "corpus")
"""Where the scenarios of a checkout are."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Names of incidents for a reader, in the order of their openings."""
SAID_ELSEWHERE = ("policy", "result")
"""Reasons of decisions that the line of an action, or of its result, tells."""

corpus = typer.Typer(cls=Commands, no_args_is_help=True, help="Play the corpus of scenarios.")
app.add_typer(corpus, name="corpus")


@corpus.callback()
def _group() -> None:
    """Play the corpus of scenarios."""


@corpus.command("run", epilog="Example: firstfault corpus run C01")
def run_corpus(
    name: Annotated[
        str | None,
        typer.Argument(help="Scenario, or how its id begins; default: all.", metavar="[ID]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise; 0 is none.", min=0)] = 0,
    rules: Rules = "nfvi",
    folder: Annotated[
        Path | None, typer.Option(help="Folder of scenarios; default: tests/corpus.")
    ] = None,
    output: Output = Format.text,
) -> None:
    """Play scenarios in closed loop and print what was done; exit code 1 where a claim fails.

    A claim that is pending fails the run once it holds.
    """
    ruleset = load_pack(find_pack(rules))
    played = [play(one, ruleset, seed) for one in _chosen(folder or _default(), name, ruleset)]
    if output is Format.json:
        say_json([_document(one) for one in played])
    else:
        for one in played:
            for line in scenario_text(one).split("\n"):
                out.print(plain(line))
        out.print(_summary(played))
    if not {status(one) for one in played} <= {"ok", "pending"}:
        raise typer.Exit(EXIT_DIFFERENT)


def _default() -> Path:
    here = Path.cwd() / FOLDER
    return here if here.is_dir() else Path(__file__).resolve().parents[2] / FOLDER


def _chosen(folder: Path, name: str | None, ruleset: RuleSet) -> list[Loaded]:
    if not folder.is_dir():
        msg = f"{folder}: no such folder"
        raise BadInput(msg)
    loaded = load_corpus(folder, ruleset)
    chosen = [one for one in loaded if one.scenario.id.startswith(name or "")]
    if not chosen:
        known = ", ".join(one.scenario.id for one in loaded)
        msg = f"{name or folder}: no such scenario ({known or 'there is none'})"
        raise BadInput(msg)
    return chosen


def status(played: Played) -> str:
    """Return the outcome as a word: ok, failed, pending, or no longer pending."""
    if played.failed:
        return "failed"
    if played.overtaken:
        return "no longer pending"
    return "pending" if played.pending else "ok"


def _summary(played: list[Played]) -> str:
    words = [status(one) for one in played]
    counts = [f"{words.count(word)} {word}" for word in dict.fromkeys(["ok", "failed", *words])]
    return f"{len(played)} scenarios: {', '.join(counts)}"


# ---- telling -------------------------------------------------------------------------------


def scenario_text(played: Played) -> str:
    """Return a played scenario as a reader's time line; the goldens are this at seed 0."""
    return "\n".join([*_lines(played), ""])


def _lines(played: Played) -> Iterator[str]:
    scenario = played.scenario
    noise = f", seed {played.seed}" if played.seed else ""
    yield f"{scenario.id}: {status(played)}{noise}"
    yield f"  {scenario.title}"
    yield ""
    teller = _Teller()
    yield from filter(None, map(teller.line, played.story))
    yield ""
    for verdict in played.verdicts:
        yield f"  {_word(verdict):<8}{verdict.kind:<10}{verdict.text}"
        if verdict.failure:
            yield f"{'':<20}{verdict.failure}"
        if verdict.pending is not None:
            yield f"{'':<20}pending: {verdict.pending}"


def _word(verdict: Verdict) -> str:
    if not verdict.failure:
        return "ok"
    return "FAILED" if verdict.pending is None else "pending"


class _Teller:
    """Turns what happened into lines; remembers what it said of each incident."""

    def __init__(self) -> None:
        self._known: dict[str, Incident] = {}
        self._letters: dict[str, str] = {}

    def line(self, told: Told) -> str | None:
        """Return the line of one thing that happened; None where it says nothing new."""
        what = told.what
        if isinstance(what, Incident):
            said = self._incident(what)
        elif isinstance(what, Decision):
            # An action tells itself, and so does its result.
            said = None if what.reason in SAID_ELSEWHERE else self._decision(what)
        elif isinstance(what, Action):
            said = "action", _action(what)
        elif isinstance(what, Result):
            said = "result", _result(told, what)
        elif isinstance(what, Digest):
            said = "digest", f"{what.resource} {what.state} ({what.confidence:.3f})"
        else:
            said = "inject", what.text
        if said is None:
            return None
        note = f" [{told.note}]" if told.note else ""
        return f"{told.at_us / 1e6:>9.3f}  {said[0]:<9}{said[1]}{note}"

    def _incident(self, incident: Incident) -> tuple[str, str] | None:
        name = incident.incident_id
        before = self._known.get(name)
        if not is_news(incident, before):
            return None
        self._known[name] = incident
        letter = self._letters.setdefault(name, LETTERS[len(self._letters) % len(LETTERS)])
        return "incident", f"{letter}: {incident_text(incident, before)}"

    def _decision(self, decision: Decision) -> tuple[str, str]:
        letter = self._letters.get(decision.incident_id or "")
        text = f"{decision_text(decision)} ({decision.reason})"
        return decision.verdict, f"{letter}: {text}" if letter else text


def _action(action: Action) -> str:
    given = "".join(f" {name}={value}" for name, value in sorted(action.parameters.items()))
    mode = "" if action.mode == "enforce" else f" ({action.mode})"
    by = f" by {action.method}" if action.method else ""
    return f"{action.verb} {action.target}{by}{given}{mode}"


def _result(told: Told, result: Result) -> str:
    proof = "".join(
        f" {name}={value}" for name, value in sorted(result.proof.items()) if name != "observed_at"
    )
    action = told.sent
    about = "" if action is None else f"{action.verb} {action.target}: "
    return f"{about}{result.state}{proof}"


# ---- for programs --------------------------------------------------------------------------


def _document(played: Played) -> dict[str, Any]:
    scenario = played.scenario
    teller = _Teller()
    lines = [teller.line(told) for told in played.story]
    claims = [
        {
            "kind": one.kind,
            "text": one.text,
            "holds": not one.failure,
            "found": one.failure,
            "pending": one.pending,
        }
        for one in played.verdicts
    ]
    return {
        "id": scenario.id,
        "row": scenario.row,
        "title": scenario.title,
        "seed": played.seed,
        "status": status(played),
        "claims": claims,
        "story": [line.strip() for line in lines if line is not None],
    }
