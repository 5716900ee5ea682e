"""A consumer of actions: tells notices, and restarts processes with systemd.

python examples/consumer/consumer.py --local site --keys keys/keys.yaml --key keys/actuator-a.pem
"""

import argparse
import subprocess

from firstfault import Action, ActionConsumer, Outcome, Proof

given = argparse.ArgumentParser(description=__doc__)
given.add_argument("--local", default="site")
given.add_argument("--name", default="actuator:a", help="as the key set names our key")
given.add_argument("--keys", required=True, help="key set of those whose actions count")
given.add_argument("--key", required=True, help="our private key, to sign results")
given.add_argument("--for", dest="for_s", type=float, help="seconds; without it, for ever")
said = given.parse_args()
consumer = ActionConsumer.local(said.local, name=said.name, keys=said.keys, private_key=said.key)


@consumer.on("notify")
def notify(action: Action) -> Proof:
    """Tell a person; on a real site, by whatever people look at."""
    print(f"{action.cause} (confidence {action.confidence:.3f})", flush=True)
    return {"told": "standard output"}


@consumer.on("restart_process")
def restart(action: Action) -> Proof | Outcome:
    """Restart the unit that is called as the target, and look whether it runs."""
    unit = action.target.rpartition(":")[2]
    subprocess.run(["systemctl", "restart", "--", unit], check=False)
    state = subprocess.run(
        ["systemctl", "is-active", "--", unit], check=False, stdout=subprocess.PIPE
    ).stdout
    proof = {"method": "systemd", "observed_state": state.decode().strip()}
    return proof if proof["observed_state"] == "active" else Outcome("FAILED", proof)


consumer.run(said.for_s)
