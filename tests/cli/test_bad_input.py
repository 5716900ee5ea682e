"""What cannot be used ends a command with one sentence that says what and where; exit code 2."""

import asyncio
from pathlib import Path

import pytest

from firstfault.cli.running import run_until
from firstfault.log import LogError, Message
from firstfault.log.local import open_local
from schemas.topics import LOCAL_FILE, LOG
from tests.cli.conftest import Run

HOLD = "hold --reason x --local {} --wait 0s"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (f"{HOLD} --by op-7", "--by op-7: name a speaker by its kind, e.g. operator:op-7"),
        (f"{HOLD} --by operator:a --expires 99999999999d", "longer than ten years"),
        (
            "maintenance start host:a --until 99999999999d --reason x --anyway --local {}"
            " --by operator:a --wait 0s",
            "--until 99999999999d: longer than ten years",
        ),
        ("""act --local {} --verb notify --exec "logger 'x" --for 1s""", "No closing quotation"),
    ],
)
def test_an_option_that_cannot_be_used(run: Run, tmp_path: Path, command: str, words: str) -> None:
    run("run --local {} --rules generic --for 0.1s", tmp_path)
    assert words in run(command, tmp_path, code=2).stderr


def test_an_input_to_sign_that_is_no_text(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(b"\xff\xfe{}")
    told = run("keys sign {} --key nobody.pem --domain d", file, code=2)
    assert f"{file}: not UTF-8" in told.stderr


@pytest.mark.parametrize(
    "command",
    [
        "replay {}",
        "run --local {} --rules generic --for 0.1s",
        "record {}/out --local {}",
        "incidents list --local {}",
    ],
)
def test_a_file_that_is_no_log(run: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / LOCAL_FILE).write_bytes(b"\xa5" * 8_192)
    told = run(command, *[tmp_path] * command.count("{}"), code=2)
    assert f"{LOCAL_FILE}: file is not a database" in told.stderr


def test_a_log_whose_pages_are_damaged(run: Run, tmp_path: Path) -> None:
    asyncio.run(_append(tmp_path))
    file = tmp_path / LOCAL_FILE
    value = file.read_bytes()
    file.write_bytes(value[:4_096] + b"\xa5" * (len(value) - 4_096))
    told = run("record {}/out --local {}", tmp_path, tmp_path, code=2)
    assert f"{LOCAL_FILE}: database disk image is malformed" in told.stderr


async def _append(folder: Path) -> None:
    log = open_local(folder)
    await log.append(LOG, [Message("default", b"{}")] * 1_000)
    await log.close()


def test_a_spool_that_is_none(run: Run, tmp_path: Path) -> None:
    (tmp_path / "spool-collector-h.db").write_bytes(b"\xa5" * 8_192)
    told = run("collect --source pulse --host h --local {} --for 0.1s", tmp_path, code=2)
    assert "file is not a database" in told.stderr


def test_only_the_time_that_was_given_ends_in_peace() -> None:
    async def unanswered() -> None:
        raise TimeoutError

    with pytest.raises(LogError, match="did not answer in time"):
        run_until(unanswered, "10s")


def test_who_carries_out_unsigned_actions_is_told(run: Run, tmp_path: Path) -> None:
    act = "act --local {} --verb notify --exec true --enforce --for 0.1s"
    assert "no --keys" in run(act, tmp_path).stderr


def test_a_stretch_in_which_nothing_was_appended(run: Run, tmp_path: Path) -> None:
    run("run --local {} --rules generic --for 0.1s", tmp_path)
    years = "--from 2020-01-01T00:00:00Z --to 2020-01-02T00:00:00Z"
    told = run(f"record {{}}/out --local {{}} {years}", tmp_path, tmp_path)
    assert "nothing was appended then" in told.stderr
