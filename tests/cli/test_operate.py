"""Operators' commands to a correlator that runs: what they print, and how they end."""

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from correlator.keyfile import read_keys
from correlator.signatures import signer_of
from firstfault.log.local import all_records
from schemas.topics import DECISIONS, LOCAL_FILE
from tests.cli.conftest import EXAMPLES, Run
from tests.consumer.stories import send_inputs

PATIENCE_S = 30.0
NOW_US = time.time_ns() // 1000
TOPOLOGY = EXAMPLES / "rack-power" / "topology.json"
APP = "app:vm00001-a1"
BY = "--by operator:op-7"
MAINTENANCE = "maintenance_start,maintenance_end,hold,release,approve,reject,retry,set_mode"


@contextmanager
def correlator(folder: Path, *options: str) -> Iterator[None]:
    """Run a correlator on the log of a folder until it speaks."""
    main = [sys.executable, "-c", "from firstfault.cli import main; main()", "run", "--quiet"]
    site = ["--local", str(folder), "--rules", "nfvi", "--topology", str(TOPOLOGY), *options]
    process = subprocess.Popen([*main, *site], stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        end_s = time.monotonic() + PATIENCE_S
        while not _claims(folder):
            assert process.poll() is None
            assert time.monotonic() < end_s
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


def _claims(folder: Path) -> bool:
    from schemas.topics import LOG  # noqa: PLC0415

    file = folder / LOCAL_FILE
    return file.is_file() and any(b"owner_claim" in one.value for one in all_records(file, LOG))


def printed(run: Run, command: str, folder: Path, code: int = 0) -> Any:  # noqa: ANN401 - JSON
    return json.loads(run(f"{command} --local {{}} --output json", folder, code=code).stdout)


def test_commands_are_answered_by_the_correlator(run: Run, tmp_path: Path) -> None:
    with correlator(tmp_path):
        held = printed(run, f"hold --reason 'storage work' {BY}", tmp_path)
        assert (held["verdict"], held["reason"]) == ("accepted", "domain_hold")
        assert held["text"] == "hold domain:default by operator:op-7 (storage work)"
        told = run(f"release --reason done --local {{}} {BY}", tmp_path).stdout
        assert told.startswith("accepted release domain:default")
        assert printed(run, f"mode dry_run --reason test {BY}", tmp_path)["reason"] == "mode_set"
        nobody = f"approve 95f3 --anyway --reason seen {BY}"
        assert printed(run, nobody, tmp_path, code=1)["reason"] == "command_has_no_object"
    unanswered = run(f"hold --reason x --wait 100ms --local {{}} {BY}", tmp_path, code=3)
    assert "does a correlator run?" in unanswered.stderr


def test_a_maintenance_session_is_announced_listed_and_ended(run: Run, tmp_path: Path) -> None:
    start = f"maintenance start host:h001 --until 2h --reason 'DIMM swap' {BY}"
    with correlator(tmp_path):
        given = f"{start} --topology {shlex.quote(str(TOPOLOGY))}"
        assert printed(run, given, tmp_path)["reason"] == "maintenance_started"
        (session,) = printed(run, "maintenance list", tmp_path)
        assert session["entity"] == "host:h001"
        lasts = datetime.fromisoformat(session["until"]) - datetime.fromisoformat(session["since"])
        assert timedelta(hours=1.9) < lasts < timedelta(hours=2.1)
        assert "(DIMM swap)" in session["text"]
        assert "host:h001" in run("maintenance list --local {}", tmp_path).stdout
        wrong = run(f"maintenance end host:h01 --reason x {BY} --local {{}}", tmp_path, code=2)
        assert "did you mean host:h001?" in wrong.stderr
        printed(run, f"maintenance end host:h001 --reason done {BY}", tmp_path)
        assert printed(run, "maintenance list", tmp_path) == []
        told = run("maintenance list --local {}", tmp_path).stdout
        assert told == "no maintenance session stands\n"


def crashed(run: Run, folder: Path) -> dict[str, Any]:
    """Let an application crash; return the incident that is opened for it."""
    crash = [
        {"type": "event", "entity": APP, "signal": name, "source": "collector:h1"}
        for name in ("app.hb.lost", "app.health.bad")
    ]
    send_inputs(folder, "default", crash)
    end_s = time.monotonic() + PATIENCE_S
    while not (found := printed(run, "incidents list", folder)):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    assert found[0]["causes"][0]["entity"] == APP
    first: dict[str, Any] = found[0]
    return first


def test_an_incident_is_listed_explained_and_its_plan_rejected(run: Run, tmp_path: Path) -> None:
    with correlator(tmp_path):
        name = crashed(run, tmp_path)["incident_id"]
        assert APP in run("incidents list --local {}", tmp_path).stdout
        told = run(f"incidents show {name[:6]} --local {{}}", tmp_path).stdout
        assert f"of {APP}" in told
        whole = printed(run, "incidents show last", tmp_path)
        assert whole["incident"]["incident_id"] == name
        rejected = printed(run, f"reject {name[:8]} --reason 'a test' {BY}", tmp_path)
        assert (rejected["target"], rejected["reason"]) == (name, "rejected")
        wrong = run(f"retry zzz --reason x --local {{}} {BY}", tmp_path, code=2)
        assert "see `firstfault incidents list`" in wrong.stderr


def test_actions_are_shown_and_answered_by_lines_of_json(run: Run, tmp_path: Path) -> None:
    with correlator(tmp_path):
        name = crashed(run, tmp_path)["incident_id"]
        tail = "actions tail --from-start --for 200ms --local {}"
        (line, *_) = run(f"{tail} --output json", tmp_path).stdout.splitlines()
        action = json.loads(line)
        assert action["incident_id"] == name
        assert action["target"] in run(tail, tmp_path).stdout
        assert run(f"{tail} --verb unfence", tmp_path).stdout == ""
        shown = printed(run, f"actions show {action['idempotency_key'][:10]}", tmp_path)
        assert shown["action"]["verb"] == action["verb"]
        reply = tmp_path / "reply.jsonl"
        names = ("action_id", "idempotency_key", "verb")
        result = {**{name: action[name] for name in names}, "state": "CONFIRMED"}
        reply.write_text(f"{json.dumps(result)}\n\nno result\n")
        bad = run("actions answer {} --local {} --by actuator:a", reply, tmp_path, code=2)
        assert "1 lines were no results" in bad.stderr
        shown = printed(run, f"actions show {action['idempotency_key']}", tmp_path)
        assert shown["results"][0]["actuator"] == "actuator:a"


def test_with_a_key_the_name_is_that_of_the_key_set(run: Run, tmp_path: Path) -> None:
    keys, site = tmp_path / "keys", tmp_path / "site"
    run(f"keys new operator:op-7 --may {MAINTENANCE} --out {{}}", keys)
    pem = keys / "operator-op-7.pem"
    given = f"hold --reason x --local {{}} --key {shlex.quote(str(pem))}"
    run(f"{given} --wait 0s", site)
    (frame,) = [
        json.loads(one.value) for one in all_records(site / LOCAL_FILE, "firstfault.log.v1")
    ]
    command = frame["inputs"][0]
    assert command["by"] == "operator:op-7"
    assert len(command["signature"]) == 16 + 1 + 88
    wrong = run(f"{given} --by operator:op-8", site, code=2)
    assert "that key is of operator:op-7" in wrong.stderr


def test_with_keys_only_what_is_signed_counts_and_actions_are_signed(
    run: Run, tmp_path: Path
) -> None:
    keys, site = tmp_path / "keys", tmp_path / "site"
    for who, may in (
        ("correlator:w1", "owner_claim,action"),
        ("operator:op-7", "hold,release"),
        ("actuator:mgmt-1", "notify,restart_process"),
    ):
        run(f"keys new {who} --may {may} --out {{}}", keys)
    options = ("--keys", str(keys / "keys.yaml"), "--signing-key", str(keys / "correlator-w1.pem"))
    mine = f"--key {shlex.quote(str(keys / 'operator-op-7.pem'))}"
    with correlator(site, *options):
        assert printed(run, f"hold --reason x {mine}", site)["verdict"] == "accepted"
        unsigned = printed(run, f"release --reason x {BY}", site, code=1)
        assert unsigned["reason"] == "signature_missing"
        more = printed(run, f"mode dry_run --reason x {mine}", site, code=1)
        assert more["reason"] == "signature_not_allowed"
        crashed(run, site)
        tail = "actions tail --from-start --for 200ms --local {} --output json"
        (line, *_) = run(tail, site).stdout.splitlines()
    found = json.loads(line)
    owner = signer_of(found, read_keys(keys / "keys.yaml"), "default", "0", NOW_US)
    assert owner.identity == "correlator:w1"
    assert found["reply_to"] == {"key": "default", "partition": 0, "topic": "firstfault.log.v1"}


def test_who_runs_signed_must_be_named_in_the_key_set(run: Run, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    run(f"keys new operator:op-7 --may {MAINTENANCE} --out {{}}", keys)
    pem, file = keys / "operator-op-7.pem", keys / "keys.yaml"
    assert "go together" in run("run --local {} --keys {}", tmp_path, file, code=2).stderr
    wrong = run("run --local {} --keys {} --signing-key {}", tmp_path, file, pem, code=2)
    assert "must be of a correlator" in wrong.stderr


BAD = [
    pytest.param("hold --reason x --local {} --wait 0s", "--by operator:NAME", id="nobody"),
    pytest.param(f"hold --reason x --wait 0s {BY}", "--local DIR", id="no log"),
    pytest.param(f"hold --reason x --local {{}} {BY}", "begins one", id="nothing there"),
    pytest.param(f"hold --local {{}} {BY}", "--reason", id="no reason"),
    pytest.param(f"mode loud --reason x --local {{}} {BY}", "use enforce", id="no mode"),
    pytest.param(f"hold --reason x --local {{}} {BY} --wait 5", "needs its unit", id="no unit"),
    pytest.param(
        f"maintenance start h1 --until 2h --reason x --local {{}} {BY}", "kind:name", id="no entity"
    ),
    pytest.param(
        f"maintenance start host:h1 --until 2h --reason x --local {{}} {BY} --wait 0s",
        "--anyway",
        id="an unknown host",
    ),
    pytest.param(
        f"maintenance start host:h1 --until 2020-01-01T00:00:00Z --reason x --local {{}} {BY}",
        "that is past",
        id="the past",
    ),
    pytest.param(
        f"maintenance start host:h1 --until soon --reason x --local {{}} {BY}",
        "use 2h",
        id="no time",
    ),
    pytest.param("incidents list --local {}", "no log there", id="nothing to read"),
]


@pytest.mark.parametrize(("command", "sentence"), BAD)
def test_what_cannot_be_given_is_said_in_one_sentence(
    run: Run, tmp_path: Path, command: str, sentence: str
) -> None:
    assert sentence in run(command, tmp_path / "site", code=2).stderr


def test_nothing_is_decided_by_the_command_itself(run: Run, tmp_path: Path) -> None:
    run(f"hold --reason x --local {{}} {BY} --wait 0s", tmp_path)
    assert list(all_records(tmp_path / LOCAL_FILE, DECISIONS)) == []
