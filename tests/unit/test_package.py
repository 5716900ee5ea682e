"""What users import: every name is there, and a consumer of actions loads no engine."""

import subprocess
import sys

import pytest

import firstfault

LIGHT = """
import sys
from firstfault import ActionConsumer
assert not {"faust", "correlator.engine"} & sys.modules.keys()
"""


@pytest.mark.parametrize("name", firstfault.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(firstfault, name).__name__ == name or name == "Proof"
    assert name in dir(firstfault)


def test_another_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        firstfault.Nothing  # noqa: B018 - asked for, and not there


def test_a_consumer_loads_no_engine() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], check=True)  # noqa: S603 - ourselves


@pytest.mark.parametrize(
    "module", ["correlator.recording", "correlator.live", "correlator.frames", "firstfault.log"]
)
def test_each_module_can_be_the_first(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)  # noqa: S603
