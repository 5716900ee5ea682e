"""What every verb must do, behind the gate and the runner: each has a class of these.

A verb is tried with a real effect, which a test can count, through a real log.
"""

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from actuators.config import ActuatorConfig
from actuators.runner import Actuator
from firstfault.consumer.gate import Trust
from firstfault.edges import Duty, Place, actuator_of
from firstfault.log import Log, Message
from firstfault.log.local import open_local
from schemas.base import canonical, document_of, from_microseconds
from schemas.outputs import Action
from schemas.topics import ACTIONS, LOG

PATIENCE_S = 20.0
ACTUATOR = "actuator:test"

KILLED = """
import asyncio, json, os, sys
from pathlib import Path
from tests.actuators.contract import actuator_in
from firstfault.log.local import open_local

async def main():
    folder, config = Path(sys.argv[1]), json.loads(sys.argv[2])
    log = open_local(folder)
    actuator = actuator_in(folder, log, config)
    for name, verb in list(actuator.verbs.items()):
        async def cut_off(action, *, is_again, verb=verb):
            outcome = await verb(action, is_again=is_again)
            os.kill(os.getpid(), 9)  # It has been done, and nobody has been told.
            return outcome
        actuator.verbs[name] = cut_off
    await actuator.run()

asyncio.run(main())
"""


class Effect(Protocol):
    """Where a verb has its effect, and how a test changes that."""

    options: dict[str, Any]
    """Of the verb, as a site's file has them."""

    def seen(self) -> list[dict[str, Any]]:
        """Return the bodies that arrived, in order."""
        ...

    def fail(self) -> None:
        """From now on what arrives is refused."""
        ...

    def hang(self) -> None:
        """From now on nothing is answered."""
        ...


def actuator_in(folder: Path, log: Log, config: dict[str, Any], **more: Any) -> Actuator:  # noqa: ANN401
    one = ActuatorConfig.model_validate({"name": ACTUATOR, "verbs": [config]})
    duty = Duty(Trust(None), is_enforced=more.pop("is_enforced", True))
    place = Place(log, folder, more.pop("on_trouble", lambda _: None))
    return actuator_of(one, duty, place, lambda _action, _outcome: None)


class Story:
    """A log with an actuator on it, and what was appended to both topics."""

    def __init__(self, folder: Path, verb: str, effect: Effect) -> None:
        self.folder, self.verb, self.effect = folder, verb, effect
        self.log = open_local(folder)
        self.troubles: list[str] = []

    def config(self) -> dict[str, Any]:
        return {"verb": self.verb, **self.effect.options}

    def action(self, key: str, **more: object) -> Action:
        expires_us = time.time_ns() // 1000 + 60_000_000
        document = {
            "action_id": f"id-{key}",
            "idempotency_key": key,
            "verb": self.verb,
            "target": "link:h1/e0",
            "target_generation": 0,
            "domain": "pod-1",
            "epoch": 5,
            "incident_id": "i1",
            "policy": "p",
            "step": 1,
            "mode": "enforce",
            "expires_at": from_microseconds(expires_us),
            "reply_to": {"key": "pod-1"},
            "max_runtime_s": 10.0,
        }
        return Action.model_validate({**document, **more})

    async def ask(self, *actions: Action | bytes) -> None:
        values = [
            one if isinstance(one, bytes) else canonical(document_of(one)).encode()
            for one in actions
        ]
        await self.log.append(ACTIONS, [Message("link:h1/e0", value) for value in values])

    async def results(self, count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(PATIENCE_S):
            async for records in self.log.read(LOG, (await self.log.span(LOG)).first):
                for record in records:
                    found += json.loads(record.value)["inputs"]
                if len(found) >= count:
                    break
        return found

    def running(self, **more: object) -> "asyncio.Task[None]":
        more.setdefault("on_trouble", self.troubles.append)
        actuator = actuator_in(self.folder, self.log, self.config(), **more)
        return asyncio.create_task(actuator.run())


async def ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class VerbContract:
    """Tests of a verb; a subclass names it, and says where its effect is."""

    verb: str

    def effect(self, folder: Path) -> AbstractContextManager[Effect]:
        raise NotImplementedError

    def _told(self, folder: Path, tell: Callable[[Story], Any]) -> None:
        with self.effect(folder) as effect:
            story = Story(folder, self.verb, effect)

            async def whole() -> None:
                try:
                    async with asyncio.timeout(3 * PATIENCE_S):
                        await tell(story)
                finally:
                    await story.log.close()

            asyncio.run(whole())

    def test_what_is_asked_is_done_once_and_proven(self, tmp_path: Path) -> None:
        async def tell(story: Story) -> None:
            task = story.running()
            await story.ask(story.action("k1"))
            (result,) = await story.results(1)
            assert (result["state"], result["actuator"]) == ("CONFIRMED", ACTUATOR), result
            assert result["proof"]["observed_state"]
            assert result["proof"]["observed_at"]
            (body,) = story.effect.seen()
            assert body["v"] == 1
            assert body["action"]["idempotency_key"] == "k1"
            assert body["text"].startswith(f"{story.verb} link:h1/e0: ")
            await ended(task)

        self._told(tmp_path, tell)

    def test_a_repeat_is_answered_and_not_done_also_after_a_restart(self, tmp_path: Path) -> None:
        async def tell(story: Story) -> None:
            task = story.running()
            await story.ask(story.action("k1"), story.action("k1"))
            await story.results(1)
            await ended(task)
            task = story.running()
            await story.ask(story.action("k1", action_id="other"))
            results = await story.results(2)
            assert {one["state"] for one in results} == {"CONFIRMED"}
            assert len(story.effect.seen()) == 1
            await ended(task)

        self._told(tmp_path, tell)

    def test_a_dry_run_does_nothing_and_says_so(self, tmp_path: Path) -> None:
        async def tell(story: Story) -> None:
            task = story.running(is_enforced=False)
            await story.ask(story.action("k1"))
            (result,) = await story.results(1)
            assert (result["state"], result["proof"]["reason"]) == ("REJECTED", "dry_run")
            assert story.effect.seen() == []
            await ended(task)

        self._told(tmp_path, tell)

    def test_what_is_stale_or_late_is_refused_and_garbage_stops_nothing(
        self, tmp_path: Path
    ) -> None:
        async def tell(story: Story) -> None:
            task = story.running()
            past = from_microseconds(time.time_ns() // 1000 - 5_000_000)
            await story.ask(
                b"\xff garbage",
                b'{"type":"action"}',
                b"[" * 100_000,
                story.action("late", expires_at=past),
                story.action("new", epoch=9),
                story.action("stale", epoch=4),
            )
            results = {one["idempotency_key"]: one for one in await story.results(3)}
            assert results["late"]["proof"]["reason"] == "expired"
            assert results["stale"]["proof"]["reason"] == "stale_epoch"
            assert results["new"]["state"] == "CONFIRMED"
            assert [one["action"]["idempotency_key"] for one in story.effect.seen()] == ["new"]
            assert len(story.troubles) == 3
            await ended(task)

        self._told(tmp_path, tell)

    def test_what_is_refused_out_there_has_failed(self, tmp_path: Path) -> None:
        async def tell(story: Story) -> None:
            story.effect.fail()
            task = story.running()
            await story.ask(story.action("k1"))
            (result,) = await story.results(1)
            assert result["state"] == "FAILED"
            await ended(task)

        self._told(tmp_path, tell)

    def test_what_does_not_end_in_its_time_ends_without_a_claim(self, tmp_path: Path) -> None:
        async def tell(story: Story) -> None:
            story.effect.hang()
            task = story.running()
            await story.ask(story.action("k1", max_runtime_s=0.5))
            (result,) = await story.results(1)
            assert result["state"] in {"TIMED_OUT", "UNKNOWN"}
            await ended(task)

        self._told(tmp_path, tell)

    def test_a_kill_between_act_and_answer_is_unknown_and_not_done_again(
        self, tmp_path: Path
    ) -> None:
        async def tell(story: Story) -> None:
            await story.ask(story.action("k1"))
            script = textwrap.dedent(KILLED)
            words = [str(story.folder), json.dumps(story.config())]
            process = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", script, *words], timeout=60, check=False
            )
            assert process.returncode == -signal.SIGKILL
            assert len(story.effect.seen()) == 1
            task = story.running()
            (result,) = await story.results(1)
            assert result["state"] == "UNKNOWN"
            assert len(story.effect.seen()) == 1
            await ended(task)

        self._told(tmp_path, tell)
