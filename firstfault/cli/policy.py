"""``firstfault policy``: what would be done for an entity, and why."""

from typing import Annotated, Any

import typer
from rich.table import Table

from correlator.rules import RuleSet, load_pack
from correlator.rules.settings import Effective, effective
from firstfault.cli.sentences import plain
from firstfault.cli.terminal import BadInput, Commands, Format, Output, Rules, app, out, say_json
from firstfault.packs import find_pack
from schemas.base import is_entity, kind_of
from schemas.rules import Budget, Limits, Policy

policy = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Show what would be done, and who said so."
)
app.add_typer(policy, name="policy")


@policy.command(epilog="Example: firstfault policy show vm:db-1 --rules nfvi")
def show(
    entity: Annotated[str, typer.Argument(help="e.g. vm:db-1.", metavar="ENTITY")],
    rules: Rules = "nfvi",
    output: Output = Format.text,
) -> None:
    """Print the effective settings of an entity, the plans for its faults, and their limits."""
    if not is_entity(entity):
        msg = f"{entity}: no entity, write kind:name, e.g. vm:db-1"
        raise BadInput(msg)
    pack = load_pack(find_pack(rules))
    found = effective(pack.settings, entity)
    plans = [_plan(pack, name, one) for name, one in _plans(pack, kind_of(entity))]
    if output is Format.json:
        limits = pack.limits.model_dump(mode="json")
        say_json({**_settings(pack, found), "plans": plans, "limits": limits})
    else:
        _print(pack, found, plans)
        _print_limits(pack.limits)


def _plans(pack: RuleSet, kind: str) -> list[tuple[str, Policy | None]]:
    """Return (signature, its policy) of each fault that an entity of a kind may have."""
    names = [one.name for one in pack.signatures if one.root in (kind, "*")]
    named = {cause: one for one in reversed(pack.policies) for cause in one.cause}
    return [(name, named.get(name) or named.get("*")) for name in names]


def _plan(pack: RuleSet, signature: str, one: Policy | None) -> dict[str, Any]:
    if one is None:
        return {"fault": signature, "policy": None, "steps": [], "at": None}
    steps = [verb for entry in one.do for verb in entry]
    at = str(pack.locations[f"policy:{one.name}"])
    return {"fault": signature, "policy": one.name, "steps": steps, "at": at}


def _settings(pack: RuleSet, found: Effective) -> dict[str, Any]:
    said_by = [str(pack.locations[f"settings:{name}"]) for name in found.said_by]
    return {
        "entity": found.entity,
        "sla": found.sla,
        "priority": found.priority,
        "recover": found.recover,
        "said_by": said_by,
    }


def _print(pack: RuleSet, found: Effective, plans: list[dict[str, Any]]) -> None:
    settings = _settings(pack, found)
    said = ", ".join(settings.pop("said_by")) or "defaults: no settings document speaks of it"
    words = [f"{key} {value}" for key, value in settings.items() if value is not None]
    out.print(plain(f"{', '.join(words)} ({said})"))
    table = Table("fault", "policy", "steps", "stands at", box=None, pad_edge=False)
    for row in plans:
        steps = ", ".join(row["steps"]) or "nothing"
        table.add_row(row["fault"], row["policy"] or "none", steps, row["at"] or "")
    out.print(table)


def _print_limits(limits: Limits) -> None:
    """Print what no plan exceeds; durations are in seconds."""
    table = Table("limit", "value", "what it bounds", box=None, pad_edge=False)
    for name, field in Limits.model_fields.items():
        value = getattr(limits, name)
        text = f"{value.actions} in {value.per:g} s" if isinstance(value, Budget) else f"{value:g}"
        unit = " s" if isinstance(value, float) else ""
        table.add_row(name, text + unit, field.description or "")
    out.print()
    out.print(table)
