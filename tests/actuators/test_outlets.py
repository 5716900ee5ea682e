"""The verbs that tell somebody, through their contract: by a webhook, and by a program."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from actuators.config import ActuatorConfig
from tests.actuators.contract import ACTUATOR, Effect, VerbContract

PROGRAM = """
import sys, time
from pathlib import Path
folder = Path(sys.argv[1])
body = sys.stdin.read()
if (folder / "hang").exists():
    time.sleep(60)
if (folder / "fail").exists():
    sys.exit(3)
with (folder / "seen").open("a") as file:
    file.write(body + "\\n")
"""


class Program:
    """A program that writes down what it is told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.options: dict[str, Any] = {"exec": [sys.executable, "-c", PROGRAM, str(folder)]}

    def seen(self) -> list[dict[str, Any]]:
        file = self._folder / "seen"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def fail(self) -> None:
        (self._folder / "fail").touch()

    def hang(self) -> None:
        (self._folder / "hang").touch()


class Webhook:
    """A far end that writes down what it is told, once a key."""

    def __init__(self) -> None:
        self.answers, self.refusal = [204], 400
        self.bodies: list[dict[str, Any]] = []
        self.requests = 0
        self.goes_on = threading.Event()
        self.goes_on.set()
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = json.loads(self.rfile.read(length))
                webhook.requests += 1
                webhook.goes_on.wait(30)
                answer = webhook.answers[0]
                if len(webhook.answers) > 1:
                    webhook.answers.pop(0)
                if answer == 204:
                    webhook.bodies.append(body)
                assert self.headers["Idempotency-Key"] == body["action"]["idempotency_key"]
                self.send_response(answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.options: dict[str, Any] = {
            "webhook": f"http://127.0.0.1:{self.server.server_address[1]}/hook",
            "timeout_s": 5,
        }

    def seen(self) -> list[dict[str, Any]]:
        return self.bodies

    def fail(self) -> None:
        self.answers = [self.refusal]

    def hang(self) -> None:
        self.goes_on.clear()


@contextmanager
def program(folder: Path) -> Iterator[Effect]:
    (folder / "told").mkdir()
    yield Program(folder / "told")


@contextmanager
def webhook() -> Iterator[Webhook]:
    one = Webhook()
    serving = threading.Thread(target=one.server.serve_forever)
    serving.start()
    try:
        yield one
    finally:
        one.goes_on.set()
        one.server.shutdown()
        serving.join()
        one.server.server_close()


class Told(VerbContract):
    """The contract of `notify` with an effect that a test has prepared."""

    __test__ = False
    verb = "notify"

    def __init__(self, effect: Effect) -> None:
        self._effect = effect

    def effect(self, folder: Path) -> AbstractContextManager[Effect]:
        return nullcontext(self._effect)


class TestNotifyByProgram(VerbContract):
    verb = "notify"

    def effect(self, folder: Path) -> AbstractContextManager[Effect]:
        return program(folder)


class TestNotifyByWebhook(VerbContract):
    verb = "notify"

    def effect(self, folder: Path) -> AbstractContextManager[Effect]:
        return webhook()

    def test_a_far_end_that_is_busy_is_asked_again(self, tmp_path: Path) -> None:
        with webhook() as one:
            one.answers = [503, 429, 204]
            Told(one).test_what_is_asked_is_done_once_and_proven(tmp_path)
            assert one.requests == 3

    def test_a_far_end_that_stays_busy_is_not_asked_for_ever(self, tmp_path: Path) -> None:
        with webhook() as one:
            one.refusal = 503
            Told(one).test_what_is_refused_out_there_has_failed(tmp_path)
            assert one.requests == 3

    def test_nobody_is_followed_elsewhere(self, tmp_path: Path) -> None:
        with webhook() as one:
            one.refusal = 302
            Told(one).test_what_is_refused_out_there_has_failed(tmp_path)
            assert one.requests == 1


class TestPage(VerbContract):
    verb = "page"

    def effect(self, folder: Path) -> AbstractContextManager[Effect]:
        return program(folder)


@pytest.mark.parametrize(
    ("verb", "what"),
    [
        pytest.param({"verb": "notify"}, "name a webhook, or a program", id="nobody to tell"),
        pytest.param({"verb": "notify", "url": "x"}, "Extra inputs", id="a mistyped option"),
        pytest.param({"verb": "notify", "webhook": "ftp://x"}, "URL scheme", id="no web address"),
        pytest.param({"verb": "fence", "exec": ["x"]}, "'notify', 'page'", id="no such verb"),
    ],
)
def test_what_an_actuator_cannot_be_told(verb: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        ActuatorConfig.model_validate({"name": ACTUATOR, "verbs": [verb]})


def test_a_program_that_is_not_there_has_failed(tmp_path: Path) -> None:
    one = Program(tmp_path)
    one.options = {"exec": [str(tmp_path / "no-such-program")]}
    Told(one).test_what_is_refused_out_there_has_failed(tmp_path)
