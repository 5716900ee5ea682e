"""The consumer of `examples/consumer` that uses our library, as a user starts it."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.consumer.stories import action, results, send, signed, site
from tests.signed import ACTUATOR

CONSUMER = ROOT / "examples" / "consumer" / "consumer.py"


def test_the_example_tells_a_notice_and_answers(tmp_path: Path) -> None:
    site(tmp_path)
    send(tmp_path, [signed(action("k1", verb="notify"))])
    options = ["--local", str(tmp_path), "--name", ACTUATOR, "--for", "2"]
    keys = ["--keys", str(tmp_path / "keys.yaml"), "--key", str(tmp_path / "actuator.pem")]
    done = subprocess.run(  # noqa: S603 - an example of ours
        [sys.executable, str(CONSUMER), *options, *keys],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "app-crash of app:a (confidence 0.000)\n"
    (result,) = results(tmp_path)
    assert (result.state, result.proof) == ("CONFIRMED", {"told": "standard output"})
