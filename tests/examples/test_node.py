"""The consumer of `examples/consumer` that has none of our library: run by `make examples-test`."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from schemas.base import from_microseconds
from tests.cli.conftest import invoke
from tests.conftest import ROOT
from tests.consumer.stories import action, results, send, signed, site
from tests.signed import DOMAIN, OPERATOR

CONSUMER = ROOT / "examples" / "consumer" / "consumer.mjs"
EXPORTED = ROOT / "schemas" / "exported"


def valid(name: str, document: dict[str, Any]) -> dict[str, Any]:
    text = (EXPORTED / f"{name}.schema.json").read_text(encoding="utf-8")
    Draft202012Validator(json.loads(text)).validate(document)
    return document


def answers(folder: Path, lines: list[bytes]) -> list[dict[str, Any]]:
    """Return what the consumer writes when it reads lines; each is a result by the schema."""
    node = shutil.which("node")
    if node is None:
        pytest.fail("this target needs Node 20 or newer")
    keys = folder / "keys.json"
    keys.write_text(invoke("keys show {} --output json", folder / "keys.yaml").stdout)
    done = subprocess.run(  # noqa: S603 - an example of ours
        [node, str(CONSUMER), str(keys), str(folder / "ledger.jsonl")],
        input=b"".join(line + b"\n" for line in lines),
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    return [valid("result", json.loads(line)) for line in done.stdout.splitlines()]


def notice(key: str, **more: Any) -> bytes:  # noqa: ANN401 - fields of an action
    given = action(key, verb="notify", confidence=1.0, cause="Störung „A“ of app:é", **more)
    line = signed(given)
    valid("action", json.loads(line))
    return line


def test_it_acts_once_and_refuses_what_must_not_be_done(tmp_path: Path) -> None:
    site(tmp_path)
    foreign = signed(action("foreign", verb="notify"), by=OPERATOR)
    changed = notice("changed").replace("Störung".encode(), b"Storm")
    lines = [
        b"garbage",
        foreign,
        changed,
        signed(action("fence", verb="fence")),
        notice("new", epoch=9, fence_token=3),
        notice("new", epoch=10),
        notice("old", epoch=8),
        notice("late", epoch=9, expires_at=from_microseconds(1)),
        notice("dry", epoch=9, mode="dry_run"),
    ]
    told = [
        (one["idempotency_key"], one["state"], one["proof"]) for one in answers(tmp_path, lines)
    ]
    done = {"told": "standard error"}
    assert told == [
        ("new", "CONFIRMED", done),
        ("new", "CONFIRMED", done),
        ("old", "REJECTED", {"reason": "stale_epoch"}),
        ("late", "REJECTED", {"reason": "expired"}),
        ("dry", "REJECTED", {"reason": "dry_run"}),
    ]
    assert [one["state"] for one in answers(tmp_path, lines[4:5])] == ["CONFIRMED"]
    with (tmp_path / "ledger.jsonl").open("a") as ledger:
        ledger.write('{"key":"cut","state":"BEGUN"}\n{"key":"half')
    (unknown,) = answers(tmp_path, [notice("cut", epoch=9)])
    assert unknown["state"] == "UNKNOWN"


def test_its_results_are_appended_signed(tmp_path: Path) -> None:
    send(site(tmp_path), [notice("k1")])
    lines = tmp_path / "results.jsonl"
    lines.write_text("".join(json.dumps(one) + "\n" for one in answers(tmp_path, [notice("k1")])))
    invoke("actions answer {} --local {} --key {} --domain " + DOMAIN + " --keys {}", lines,
           tmp_path, tmp_path / "actuator.pem", tmp_path / "keys.yaml")  # fmt: skip
    (result,) = results(tmp_path)
    assert (result.idempotency_key, result.state) == ("k1", "CONFIRMED")
    assert result.signature
