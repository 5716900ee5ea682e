"""A consumer to be killed: each effect is one line of a file, written at once.

Run as ``python program.py SITE EFFECTS``. Of a restart it can tell how a quarantine ended; of a
restarted process it cannot.
"""

import os
import sys
import time
from pathlib import Path

from firstfault import Action, ActionConsumer, Outcome, Proof
from tests.signed import ACTUATOR


def main(site: Path, effects: Path) -> None:
    """Carry out actions until killed."""
    consumer = ActionConsumer.local(
        site,
        name=ACTUATOR,
        keys=site / "keys.yaml",
        private_key=site / "actuator.pem",
        ledger=site / "ledger.db",
    )

    def effect(action: Action) -> None:
        with effects.open("a", encoding="utf-8") as file:
            file.write(f"{action.idempotency_key}\n")
            file.flush()
            os.fsync(file.fileno())

    @consumer.on("restart_process")
    def restart(action: Action) -> Proof:
        effect(action)
        time.sleep(0.02)
        return {"observed_state": "RUNNING"}

    @consumer.on("quarantine")
    def quarantine(action: Action) -> Proof:
        effect(action)
        time.sleep(0.02)
        return {"observed_state": "QUARANTINED"}

    @consumer.ask("quarantine")
    def is_quarantined(action: Action) -> Proof | Outcome:
        if action.idempotency_key in effects.read_text(encoding="utf-8").split():
            return {"observed_state": "QUARANTINED"}
        return Outcome("FAILED", {"observed_state": "NOT_QUARANTINED"})

    consumer.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
