"""`firstfault run --region`: what it refuses, each with a sentence. It runs in `tests/kafka`."""

from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize(
    "options",
    [
        "--local site",
        "--kafka localhost:9 --standby",
        "--kafka localhost:9 --config site.yaml",
        "--kafka localhost:9 --topology topology.json",
    ],
)
def test_what_does_not_go_with_a_region_is_refused(run: Run, options: str) -> None:
    told = run(f"run --region {options}", code=2)
    assert "--region goes with --kafka" in told.stderr


def test_a_key_that_may_give_no_verdict_is_refused(run: Run, tmp_path: Path) -> None:
    run("keys new region:south --may hold --out {}", tmp_path)
    run("keys new operator:op-7 --may verdict --out {}", tmp_path)
    for name in ("region-south.pem", "operator-op-7.pem"):
        told = run(f"run --region --kafka localhost:9 --signing-key {{}}/{name}", tmp_path, code=2)
        assert "must be of a region there that may say verdict" in told.stderr
    told = run("run --region --kafka localhost:9 --keys {}/keys.yaml", tmp_path, code=2)
    assert "--keys says whose --signing-key is" in told.stderr
