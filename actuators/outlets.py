"""Ways in which people and other systems are told: a webhook, and a command of the site.

Both get the same body: ``{"v": 1, "text": "one sentence", "action": {…}}``, with the action as it
was on its topic. Chat systems show `text`, programs read `action`. Nothing is ever run by a shell.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import aiohttp
from pydantic import Field, HttpUrl, model_validator
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from actuators.verb import Outcome
from firstfault.consumer.duties import Ending
from schemas.base import Strict, canonical, document_of, from_microseconds
from schemas.outputs import Action

ATTEMPTS_MAX = 3
"""Tries of a webhook; with the pauses and a far end that hangs they end within `timeout_s` each."""
PAUSE_S, PAUSE_S_MAX = 0.2, 2.0
TAKEN = range(200, 300)
AGAIN = frozenset({408, 429, *range(500, 600)})
"""Answers that may be another next time: RFC 9110, section 15; RFC 6585, section 4."""

WORST_FIRST: list[Ending] = ["FAILED", "TIMED_OUT", "UNKNOWN", "CONFIRMED"]

Way = Callable[[bytes, Action], Awaitable[Outcome]]


class Outlets(Strict):
    """Where something is told; each that is named is used, and all of them have to succeed."""

    webhook: HttpUrl | None = Field(None, description="is sent a POST, e.g. https://chat/hooks/1")
    headers: dict[str, str] = Field(default_factory=dict, description="more headers of the POST")
    exec: list[str] = Field(
        default_factory=list, description="program and arguments; the body comes on its stdin"
    )
    timeout_s: float = Field(5.0, gt=0.0, le=60.0, description="of one try, seconds")

    @model_validator(mode="after")
    def _tells_somebody(self) -> "Outlets":
        if self.webhook is None and not self.exec:
            msg = "name a webhook, or a program as exec"
            raise ValueError(msg)
        return self


async def tell(action: Action, outlets: Outlets) -> Outcome:
    """Tell an action by all outlets at once; CONFIRMED only where all have taken it."""
    body = canonical({"v": 1, "text": sentence(action), "action": document_of(action)}).encode()
    ways: dict[str, Way] = {}
    if outlets.webhook is not None:
        ways["webhook"] = partial(_post, outlets)
    if outlets.exec:
        ways["exec"] = partial(_run, outlets)
    ended = await asyncio.gather(*(way(body, action) for way in ways.values()))
    proof = {
        "method": "+".join(ways),
        "observed_state": ", ".join(str(one.proof["observed_state"]) for one in ended),
        "observed_at": from_microseconds(time.time_ns() // 1000),
    }
    return Outcome(min((one.state for one in ended), key=WORST_FIRST.index), proof)


def sentence(action: Action) -> str:
    """Return an action for people."""
    why = action.cause or f"incident {action.incident_id}"
    return f"{action.verb} {action.target}: {why} (confidence {action.confidence:.2f})"


def _state(*, is_taken: bool) -> Ending:
    return "CONFIRMED" if is_taken else "FAILED"


# ---- webhook -------------------------------------------------------------------------------


class _NotTaken(Exception):  # noqa: N818 - control flow inside this file
    """The far end may take it another time."""


async def _post(outlets: Outlets, body: bytes, action: Action) -> Outcome:
    """POST a body until it is taken; the key lets the far end know a repeat."""
    headers = {
        **outlets.headers,
        "Content-Type": "application/json",
        "Idempotency-Key": action.idempotency_key,
    }
    timeout = aiohttp.ClientTimeout(total=outlets.timeout_s)
    tries = AsyncRetrying(
        stop=stop_after_attempt(ATTEMPTS_MAX),
        wait=wait_exponential_jitter(multiplier=PAUSE_S, max=PAUSE_S_MAX),
        retry=retry_if_exception_type((_NotTaken, aiohttp.ClientError, TimeoutError)),
        reraise=True,
    )
    try:
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            status: int = await tries(_posted, session, str(outlets.webhook), body)
    except TimeoutError:
        return Outcome("UNKNOWN", {"observed_state": "no answer"})
    except (_NotTaken, aiohttp.ClientError, OSError) as error:
        return Outcome("FAILED", {"observed_state": str(error) or type(error).__name__})
    return Outcome(_state(is_taken=status in TAKEN), {"observed_state": f"HTTP {status}"})


async def _posted(session: aiohttp.ClientSession, url: str, body: bytes) -> int:
    # Whoever is told is whom the site has named, not whom that one names.
    async with session.post(url, data=body, allow_redirects=False) as answer:
        if answer.status in AGAIN:
            msg = f"HTTP {answer.status}"
            raise _NotTaken(msg)
        return answer.status


# ---- a program -----------------------------------------------------------------------------


async def _run(outlets: Outlets, body: bytes, _: Action) -> Outcome:
    """Run a program of the site with the body on its stdin; its exit status says how it ended."""
    try:
        process = await asyncio.create_subprocess_exec(
            *outlets.exec,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return Outcome("FAILED", {"observed_state": f"{outlets.exec[0]}: {error.strerror}"})
    try:
        async with asyncio.timeout(outlets.timeout_s):
            await process.communicate(body)
    except TimeoutError:
        return Outcome("TIMED_OUT", {"observed_state": f"still ran after {outlets.timeout_s:g} s"})
    finally:
        # Also what it has started ends with it, and when we are cancelled.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    state = _state(is_taken=process.returncode == 0)
    return Outcome(state, {"observed_state": f"exit {process.returncode}"})
