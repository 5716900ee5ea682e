"""``firstfault diff``: what two records of a replay say differently."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from correlator.recorded import Said, read_outputs
from firstfault.cli.sentences import action_text, clock, decision_text, incident_text, plain, short
from firstfault.cli.terminal import EXIT_DIFFERENT, Format, Output, app, out, say_json
from schemas.base import canonical
from schemas.outputs import Action, Decision, Digest, Incident

NOT_COMPARED = frozenset({"action_id", "epoch", "expires_at", "signature", "reply_to"})
"""Fields of an action that may differ between two correct runs: who spoke, when, and where to
answer, which only a shell knows."""
Key = tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """One output that only one record has, or that both have with other content.

    a and b: the output in each; None where it is not.
    fields: names of the fields that differ.
    """

    a: Said | None
    b: Said | None
    fields: tuple[str, ...] = ()

    @property
    def at(self) -> tuple[str, int, int]:
        """Log time, offset and index: for order."""
        spoken = self.a or self.b
        return (spoken.log_at, spoken.offset, spoken.index) if spoken else ("", 0, 0)


def _identity(spoken: Said) -> Key:
    """Return what makes two outputs the same one, whatever else they say."""
    output = spoken.output
    if isinstance(output, Incident):
        return "incident", spoken.case, output.incident_id, str(output.update)
    if isinstance(output, Action):
        return "action", spoken.case, output.idempotency_key
    if isinstance(output, Digest):
        return "digest", spoken.case, output.resource, output.domain, output.told_at, output.state
    told = (output.reason, output.policy or "", output.decided_at, output.incident_id or "")
    return "decision", spoken.case, output.entity, *told


def _by_identity(outputs: list[Said]) -> dict[Key, Said]:
    repeats: Counter[Key] = Counter()
    found: dict[Key, Said] = {}
    for spoken in outputs:
        key = _identity(spoken)
        found[(*key, str(repeats[key]))] = spoken
        repeats[key] += 1
    return found


def _content(spoken: Said) -> dict[str, Any]:
    content = spoken.output.model_dump(mode="json")
    if isinstance(spoken.output, Action):
        return {name: value for name, value in content.items() if name not in NOT_COMPARED}
    return content


def differences(a: list[Said], b: list[Said]) -> list[Difference]:
    """Return what two records say differently, in the order of log time; empty if nothing."""
    in_a, in_b = _by_identity(a), _by_identity(b)
    found = [Difference(said, None) for key, said in in_a.items() if key not in in_b]
    found += [Difference(None, said) for key, said in in_b.items() if key not in in_a]
    for key in in_a.keys() & in_b.keys():
        one, other = _content(in_a[key]), _content(in_b[key])
        fields = tuple(n for n in sorted({*one, *other}) if one.get(n) != other.get(n))
        if fields:
            found.append(Difference(in_a[key], in_b[key], fields))
    return sorted(found, key=lambda d: (d.at, d.a is None, d.fields))


def _text(spoken: Said) -> str:
    output = spoken.output
    if isinstance(output, Incident):
        return f"incident {short(output.incident_id)} {output.state}: {incident_text(output)}"
    if isinstance(output, Decision):
        return f"decision {output.verdict}: {decision_text(output)} ({output.reason})"
    if isinstance(output, Digest):
        return f"digest {output.resource}: {output.state} in {output.domain}"
    return f"action {action_text(output)}"


def _excerpt(value: object) -> str:
    text = canonical(value)
    return text if len(text) <= 100 else text[:99] + "…"  # noqa: PLR2004 - a line's worth


def _show(difference: Difference) -> None:
    a, b = difference.a, difference.b
    if a is None or b is None:
        sign, style, spoken = ("-", "red", a) if a else ("+", "green", b)
        if spoken is not None:
            text = plain(_text(spoken))
            out.print(f"[{style}]{sign} {clock(spoken.log_at)}  {text}[/{style}]")
        return
    out.print(f"[yellow]~[/yellow] {clock(a.log_at)}  {plain(_text(b))}")
    one, other = _content(a), _content(b)
    for name in difference.fields:
        changed = f"{_excerpt(one.get(name))} → {_excerpt(other.get(name))}"
        out.print(f"    {name}: {plain(changed)}")


def _json(difference: Difference) -> dict[str, Any]:
    return {
        "a": _content(difference.a) if difference.a else None,
        "b": _content(difference.b) if difference.b else None,
        "fields": list(difference.fields),
        "log_at": difference.at[0],
    }


@app.command(
    epilog="Example: firstfault replay examples/lag-flap --record out && "
    "firstfault diff out out/outputs.jsonl"
)
def diff(
    a: Annotated[Path, typer.Argument(help="Record folder, or outputs.jsonl.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="The other one.", metavar="B")],
    output: Output = Format.text,
    limit: Annotated[int, typer.Option(help="Differences shown.", min=1)] = 20,
) -> None:
    """Compare what two replays said; exit code 0 where it is the same, 1 where it differs.

    Actions are the same when their idempotency keys are; epoch and expiry do not count.
    """
    found = differences(read_outputs(a), read_outputs(b))
    if output is Format.json:
        shown = [_json(difference) for difference in found[:limit]]
        say_json({"same": not found, "count": len(found), "differences": shown})
    else:
        for difference in found[:limit]:
            _show(difference)
        more = f", {limit} shown" if len(found) > limit else ""
        out.print(f"{len(found)} differences{more}" if found else "the same")
    if found:
        raise typer.Exit(EXIT_DIFFERENT)
