"""The watchdog: who stands still though there is something to read is ended, and only who does."""

import signal
import subprocess
import sys
import time

import pytest

from firstfault.watchdog import HUNG, SIGNALS, Watchdog
from schemas.kafka import KafkaSettings
from schemas.topics import LOG

NOWHERE = KafkaSettings(bootstrap="127.0.0.1:1")


def watchdog() -> Watchdog:
    return Watchdog(NOWHERE, LOG, dict, lambda: None)


def test_who_lags_without_a_step_is_stalled_since_the_first_look_at_it() -> None:
    dog = watchdog()
    assert dog.stalled_s({0: 5, 1: 9}, {0: 8, 1: 9}, 100.0) == 0.0
    assert dog.stalled_s({0: 5, 1: 9}, {0: 20, 1: 9}, 110.0) == 10.0


def test_a_step_or_the_end_of_the_log_starts_the_time_anew() -> None:
    dog = watchdog()
    dog.stalled_s({0: 5}, {0: 8}, 100.0)
    assert dog.stalled_s({0: 6}, {0: 30}, 110.0) == 0.0
    assert dog.stalled_s({0: 30}, {0: 30}, 120.0) == 0.0
    assert dog.stalled_s({0: 30}, {0: 31}, 130.0) == 0.0


def test_a_partition_that_moved_away_is_forgotten() -> None:
    dog = watchdog()
    dog.stalled_s({0: 5}, {0: 8}, 100.0)
    assert dog.stalled_s({}, {}, 110.0) == 0.0
    assert dog.stalled_s({0: 5}, {0: 8}, 120.0) == 0.0


HANGS = f"""
import signal, sys, time
from firstfault.watchdog import SIGNALS, Watchdog
from schemas.kafka import KafkaSettings
signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
settings = KafkaSettings(bootstrap={NOWHERE.bootstrap!r})
Watchdog(settings, {LOG!r}, dict, lambda: print("asked", flush=True)).start()
print("hangs", flush=True)
time.sleep(600)
"""


def test_a_process_that_hears_no_signal_is_ended_all_the_same() -> None:
    assert signal.SIGTERM in SIGNALS
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", HANGS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process, process.stdout, process.stderr:
        assert process.stdout.readline() == "hangs\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == HUNG
        assert process.stdout.read() == "asked\n"
        assert "start it again" in process.stderr.read()


def test_nor_does_it_live_on_where_nobody_reads_what_it_says() -> None:
    words = [sys.executable, "-c", HANGS]
    process = subprocess.Popen(  # noqa: S603 - our own program
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process, process.stdout:
        assert process.stdout.readline() == "hangs\n"
        process.stderr.close()
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(30) == HUNG
        finally:
            process.kill()


LEAVES = """
import asyncio, sys, threading, time
from firstfault import watchdog
watchdog.STOP_S = 0.2

async def hears_nothing():
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass

async def main(left):
    if left == "task":
        main.task = asyncio.ensure_future(hears_nothing())
    elif left == "thread":
        threading.Thread(target=time.sleep, args=(600,)).start()
    await asyncio.sleep(0)

watchdog.run_to_the_end(main(sys.argv[1]))
print("over", flush=True)
"""


@pytest.mark.parametrize(
    ("left", "code", "printed"),
    [("nothing", 0, "over\n"), ("task", HUNG, ""), ("thread", HUNG, "over\n")],
)
def test_what_a_process_leaves_behind_does_not_keep_it(left: str, code: int, printed: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", LEAVES, left],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, printed)
    assert ("did not end; start it again" in done.stderr) == (code == HUNG)
