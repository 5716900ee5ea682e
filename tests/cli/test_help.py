"""Every command's help, its example, and the demo."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from firstfault.cli import app
from tests.cli.conftest import EXAMPLES, Run


def _commands() -> Iterator[tuple[str, str]]:
    """Yield the words of each command, and what stands below its help."""
    program = typer.main.get_command(app)
    assert isinstance(program, TyperGroup)
    for name, command in program.commands.items():
        inside = command.commands if isinstance(command, TyperGroup) else {"": command}
        for inner, part in inside.items():
            yield f"{name} {inner}".strip(), part.epilog or ""


COMMANDS = dict(_commands())
WITH_KAFKA = {name for name, example in COMMANDS.items() if "--kafka" in example}
"""Their examples need a broker: `tests/kafka` runs them."""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_is_a_sentence_and_an_example(run: Run, command: str) -> None:
    told = run(f"{command} --help").stdout
    assert "Example:" in told
    sentence = told.split("Usage:")[1].split("\n\n")[0]
    assert sentence.strip()


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"demo"} - WITH_KAFKA))
def test_every_example_runs_in_a_fresh_clone(
    run: Run, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIRSTFAULT_DATA", "nowhere")
    run_example(run, command)


def run_example(run: Run, command: str, *changes: tuple[str, str]) -> None:
    """Run the lines of an example, with a text of it in place of another."""
    example = COMMANDS[command].removeprefix("Example: ")
    assert example.split(" && ")[-1].startswith(f"firstfault {command}")
    for old, new in changes:
        example = example.replace(old, new)
    for line in example.split(" && "):
        program, *words = shlex.split(line)
        assert program == "firstfault"
        run(shlex.join(words))


def test_the_demo_tells_two_incidents_and_leaves_their_pictures(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRSTFAULT_DATA", "nowhere")
    told = run("demo --to {}", tmp_path).stdout
    assert "rack-power-loss of rack:r1" in told
    assert "lag-flap of link:h002/ens1f0" in told
    assert "left out: " in told
    assert len(list(tmp_path.glob("*/incident-*.png"))) == 2


def test_the_version_is_told(run: Run) -> None:
    assert run("--version").stdout.startswith("firstfault 0.")


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    assert "replay" in run("", code=2).output


def test_a_mistyped_option_is_bad_input(run: Run) -> None:
    assert "No such option" in run("replay --fast", code=2).output
