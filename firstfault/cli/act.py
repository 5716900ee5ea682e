"""``firstfault act``: run the actuators of a site on a log."""

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from firstfault.cli.running import LASTS, StateFolder, run_until, say, state_folder
from firstfault.cli.sentences import plain
from firstfault.cli.site import DomainName, Kafka, Local, Where, open_site
from firstfault.cli.terminal import BadInput, Format, Output, app, err, out, say_json

if TYPE_CHECKING:
    from actuators.config import ActuatorConfig
    from actuators.verb import Action, Outcome

EXAMPLE = "firstfault act --local site --verb notify --exec 'logger -t firstfault' --for 1s"

Config = Annotated[Path | None, typer.Option(help="The site's file of actuators.", metavar="FILE")]
Verbs = Annotated[
    list[str] | None, typer.Option(help="Without a file: notify, page.", metavar="VERB")
]
Webhook = Annotated[str | None, typer.Option(help="Without a file: told by POST.", metavar="URL")]
Program = Annotated[
    str | None,
    typer.Option("--exec", help="Without a file: told on its stdin.", metavar="COMMAND"),
]
Name = Annotated[str, typer.Option(help="Without a file: who answers.", metavar="ENTITY")]
Enforce = Annotated[
    bool, typer.Option("--enforce", help="Carry out; else say only what would be done.")
]
KeyFile = Annotated[
    Path | None, typer.Option(help="Whose actions count; none: anybody's.", metavar="FILE")
]
SigningKey = Annotated[
    Path | None, typer.Option(help="Private key that signs results.", metavar="FILE")
]


@app.command(epilog=f"Example: {EXAMPLE}")
def act(
    *,
    local: Local = None,
    kafka: Kafka = None,
    domain: DomainName = "default",
    state: StateFolder = None,
    config: Config = None,
    verb: Verbs = None,
    webhook: Webhook = None,
    program: Program = None,
    name: Name = "actuator:local",
    enforce: Enforce = False,
    keys: KeyFile = None,
    signing_key: SigningKey = None,
    output: Output = Format.text,
    duration: LASTS = None,
) -> None:
    """Carry out the actions of a log, each once, and append how each ended.

    Ends with Ctrl-C or SIGTERM. What was cut off is not tried again: its end is said to be unknown.
    The command of --exec is split into arguments and run without a shell.
    """
    from correlator.keyfile import read_keys, read_private
    from firstfault.consumer.consumer import keys_again
    from firstfault.consumer.gate import Trust
    from firstfault.edges import Duty, Place, actuator_of, together

    options: dict[str, Any] = {"webhook": webhook, "exec": _words(program or "")}
    actuators = _actuators(config, verb, name, options)
    trust = Trust(
        read_keys(keys) if keys else None,
        read_private(signing_key) if signing_key else None,
        read_again=partial(keys_again, keys) if keys else None,
    )
    duty, folder = Duty(trust, enforce), state_folder(state, local)
    _warn(enforce=enforce, keys=keys)

    from firstfault.log.kafka_settings import quiet_libraries

    async def whole() -> None:
        where = Where(local, kafka, domain)
        async with open_site(where, must_exist=False) as site:
            quiet_libraries()  # It waits out an outage: who looks for the reason finds a line.
            place = Place(site.log, folder, say, site.partition)
            made = [actuator_of(one, duty, place, partial(_done, output)) for one in actuators]
            await together([one.run() for one in made])

    run_until(whole, duration)


def _done(output: Format, action: "Action", outcome: "Outcome") -> None:
    proof = dict(outcome.proof)
    if output is Format.json:
        key = action.idempotency_key
        what = {"verb": action.verb, "target": action.target, "idempotency_key": key}
        say_json({**what, "state": outcome.state, "proof": proof})
        return
    why = ", ".join(str(one) for one in proof.values())
    out.print(plain(f"{outcome.state} {action.verb} {action.target} ({why})"))


def _warn(*, enforce: bool, keys: Path | None) -> None:
    if not enforce:
        err.print("dry run: nothing is carried out; --enforce does")
    elif keys is None:
        err.print("no --keys: whoever can write to the log can have anything carried out")


def _words(program: str) -> list[str]:
    try:
        return shlex.split(program)
    except ValueError as error:
        msg = f"--exec {program}: {error}"
        raise BadInput(msg) from None


def _actuators(
    config: Path | None, verbs: list[str] | None, name: str, options: dict[str, Any]
) -> "list[ActuatorConfig]":
    """Return the actuators of a file, or the one that the options name."""
    from pydantic import ValidationError

    from actuators.config import ActuatorConfig
    from firstfault.edges import read_edges
    from schemas.base import first_fault

    if (config is None) == (not verbs):
        msg = "name either --config FILE, or each --verb to carry out"
        raise BadInput(msg)
    if config is not None:
        found = read_edges(config).actuators
        if not found:
            msg = f"{config}: names no actuators"
            raise BadInput(msg)
        return found
    document = {"name": name, "verbs": [{"verb": one, **options} for one in verbs or ()]}
    try:
        return [ActuatorConfig.model_validate(document)]
    except ValidationError as error:
        raise BadInput(first_fault(error, "actuator")) from None
