"""What the tests of the command line share: a way to run it, and a record of each example."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from firstfault.cli import app
from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"
Run = Callable[..., Result]


def invoke(command: str, *paths: Path, code: int = 0) -> Result:
    """Run a command line, `{}` in it standing for the paths; check how it ends."""
    words = shlex.split(command.format(*map(shlex.quote, map(str, paths))))
    result = CliRunner().invoke(app, words)
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result


@pytest.fixture(scope="session")
def run() -> Run:
    return invoke


@pytest.fixture(scope="session")
def rack_power(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of a rack that loses its power."""
    return _record(tmp_path_factory, "rack-power")


@pytest.fixture(scope="session")
def lag_flap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of a link that flaps."""
    return _record(tmp_path_factory, "lag-flap")


def _record(factory: pytest.TempPathFactory, name: str) -> Path:
    folder = factory.mktemp("records") / name
    invoke("replay {} --rules nfvi --record {} --quiet", EXAMPLES / name, folder)
    return folder
