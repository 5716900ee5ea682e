"""``firstfault rules``: check a rule pack, run its tests, estimate its numbers from recordings."""

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from correlator.fit import FitResult, Labelled, fit, patch_text, read_labelled, rows
from correlator.importers import load_topology
from correlator.recording import open_recording
from correlator.rules import Fault, RuleFaults, RuleSet, load_pack
from correlator.rules.lint import lint
from correlator.ruletest import CaseResult, run_tests
from correlator.topology import Topology
from firstfault.cli.sentences import plain
from firstfault.cli.site import Kafka, Local, Manner, Reason, giving, open_log, tell
from firstfault.cli.terminal import (
    EXIT_BAD_INPUT,
    EXIT_DIFFERENT,
    BadInput,
    Commands,
    Format,
    Output,
    app,
    err,
    out,
    say_json,
)
from firstfault.packs import find_pack
from schemas.control import RULES

if TYPE_CHECKING:
    from firstfault.operations import Site, Wanted

_HASH = re.compile(r"[0-9a-f]{6,32}")
"""A hash, or enough of its beginning to be no pack's name."""

rules = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Check, test, fit and publish rule packs."
)
app.add_typer(rules, name="rules")

Pack = Annotated[
    str, typer.Argument(help="Folder of a pack, or the name of a shipped one.", metavar="PACK")
]


@rules.command(epilog="Example: firstfault rules check nfvi")
def check(pack: Pack, output: Output = Format.text) -> None:
    """Check a pack, and print everything doubtful in it.

    Exit code 1 where something is wrong, 2 where no command could use the pack.
    """
    folder = find_pack(pack)
    faults = lint(folder)
    errors = sum(fault.severity == "error" for fault in faults)
    if output is Format.json:
        say_json([_fault(fault) for fault in faults])
    else:
        for fault in faults:
            style = "red" if fault.severity == "error" else "yellow"
            out.print(f"[{style}]{plain(str(fault))}[/{style}]")
        out.print(f"{folder.name}: {errors} errors, {len(faults) - errors} warnings")
    if errors:
        raise typer.Exit(EXIT_DIFFERENT if _is_usable(folder) else EXIT_BAD_INPUT)


def _is_usable(folder: Path) -> bool:
    try:
        load_pack(folder)
    except RuleFaults:
        return False
    return True


def _fault(fault: Fault) -> dict[str, Any]:
    names = ("file", "line", "column", "code", "text", "severity")
    return {name: getattr(fault, name) for name in names}


@rules.command("test", epilog="Example: firstfault rules test generic")
def run_pack_tests(pack: Pack, output: Output = Format.text) -> None:
    """Run the tests of a pack, each case also under its hold_under; exit code 1 where one fails."""
    folder = find_pack(pack)
    results = run_tests(folder)
    failed = sum(bool(result.failures) for result in results)
    if output is Format.json:
        say_json([_result(result) for result in results])
    else:
        for result in results:
            _show_result(result)
        out.print(f"{folder.name}: {len(results)} cases, {failed} failed")
    if failed:
        raise typer.Exit(EXIT_DIFFERENT)


def _result(result: CaseResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "location": str(result.location),
        "runs": result.runs,
        "failures": list(result.failures),
    }


def _show_result(result: CaseResult) -> None:
    word = "[red]failed[/red]" if result.failures else "[green]ok[/green]    "
    out.print(f"{word}  {plain(result.name)} [dim]({result.runs} runs)[/dim]")
    for failure in result.failures:
        out.print(f"        {plain(failure)}")


@rules.command(epilog="Example: firstfault rules publish generic --local site")
def publish(
    pack: Pack, *, local: Local = None, kafka: Kafka = None, output: Output = Format.text
) -> None:
    """Publish the files of a pack under its hash, so that every worker can be told to use it."""
    from correlator.rules.bundle import files_of
    from firstfault.log.control import publish_rules

    folder = find_pack(pack)
    files = files_of(folder)
    name = _hash_of(folder)

    async def whole() -> bool:
        async with open_log(local, kafka, must_exist=False) as log:
            return await publish_rules(log, name, files)

    is_new = asyncio.run(whole())
    if output is Format.json:
        say_json({"rules": f"{RULES}{name}", "files": len(files.files), "new": is_new})
        return
    said = "published" if is_new else "published before"
    out.print(plain(f"{folder.name}: {RULES}{name} {said} ({len(files.files)} files)"))


@rules.command(
    epilog="Example: firstfault rules publish generic --local site && firstfault rules activate "
    "generic --reason 'new pack' --local site --by operator:op-7 --wait 0s"
)
@giving
def activate(
    pack: Annotated[
        str, typer.Argument(help="A published pack, or the beginning of its hash.", metavar="PACK")
    ],
    *,
    reason: Reason,
    manner: Manner,
) -> None:
    """Make a published rule set the active one of a domain, from this place of its log on."""

    async def make(site: "Site", by: str) -> "Wanted":
        from firstfault.log.control import read_rules
        from firstfault.operations import Wanted

        name = _published(pack, sorted(await read_rules(site.log)))
        return Wanted("activate_rules", f"{RULES}{name}", by, reason)

    tell(manner, make)


def _published(pack: str, known: list[str]) -> str:
    """Return the hash of the published rule set that is meant.

    Raises:
        BadInput: it is none of those that are published.
    """
    begin = pack.removeprefix(RULES)
    found = [name for name in known if name.startswith(begin)] if _HASH.fullmatch(begin) else []
    if len(found) > 1:
        msg = f"{pack} may be any of {', '.join(found[:5])}"
        raise BadInput(msg)
    if found:
        return found[0]
    name = _hash_of(find_pack(pack)) if not _HASH.fullmatch(begin) else begin
    if name not in known:
        msg = f"{pack}: {RULES}{name} is not published there; firstfault rules publish does that"
        raise BadInput(msg)
    return name


def _hash_of(folder: Path) -> str:
    """Return the hash of a pack."""
    return load_pack(folder).hash


def _labelled(folder: Path, ruleset: RuleSet) -> Labelled:
    recording = open_recording(folder)
    if recording.labels is None:
        msg = f"{folder}: no labels.jsonl there to learn from"
        raise BadInput(msg)
    topology = Topology(ruleset.schema)
    if recording.topology is not None:
        topology, _ = load_topology(recording.topology, ruleset.schema)
    return read_labelled(recording, topology, ruleset)


@rules.command("fit", epilog="Example: firstfault rules fit generic examples/rack-power")
def fit_pack(
    pack: Pack,
    folders: Annotated[
        list[Path], typer.Argument(help="Recording folders with labels.jsonl.", metavar="FOLDER...")
    ],
    patch: Annotated[
        Path | None, typer.Option(help="File to write the proposed patch to.", metavar="FILE")
    ] = None,
    discover: Annotated[
        bool, typer.Option(help="Propose symptoms that labels show and no rule names, too.")
    ] = False,
    output: Output = Format.text,
) -> None:
    """Estimate p, prior and spurious of a pack from labelled recordings; nothing is applied."""
    folder = find_pack(pack)
    ruleset = load_pack(folder)
    result = fit(ruleset, [_labelled(one, ruleset) for one in folders], discover=discover)
    if patch is not None:
        patch.write_text(patch_text(folder, result), encoding="utf-8")
    if output is Format.json:
        names = ("signature", "symptom", "path", "before", "after", "counts")
        cells = [dict(zip(names, row, strict=True)) for row in rows(result)]
        say_json({"cells": cells, "unmatched": dict(result.unmatched)})
        return
    _show_fit(result, folder.name)
    if patch is not None:
        err.print(plain(f"{patch}: read it, then apply it inside {folder} with patch -p1"))


def _show_fit(result: FitResult, name: str) -> None:
    table = Table(title=f"what the recordings say of {name}", title_justify="left")
    for column in ("signature", "symptom", "path"):
        table.add_column(column)
    for column in ("before", "after", "seen/expected"):
        table.add_column(column, justify="right")
    for row in rows(result):
        table.add_row(*map(plain, row))
    out.print(table)
    for fault, count in sorted(result.unmatched.items()):
        out.print(f"no signature stands for {plain(fault)}: {count} labels")
