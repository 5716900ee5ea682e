"""What goes wrong in a run: drawn from the seed, struck, and mended again.

Each fault is a function that breaks something and returns how it is mended. None knows what the
engine makes of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from schemas.base import from_microseconds
from schemas.inputs import Command, CommandName
from tests.simulation.actuators import Actuator
from tests.simulation.kernel import SECOND_US, Kernel
from tests.simulation.log import Log
from tests.simulation.observers import Condition, Network, Observers
from tests.simulation.physics import Host, World
from tests.simulation.site import FEEDS, PLANES, RACKS, SIDES

Mend = Callable[[], None]
LAST_S = 190.0
"""What waits for its moment gives up by then."""


@dataclass
class Stage:
    """Everything a fault may touch."""

    rng: Random
    kernel: Kernel
    world: World
    log: Log
    network: Network
    observers: Observers
    actuator: Actuator
    publish_late: Callable[[Any], None]
    """Publishes actions of a worker that was replaced."""

    def host(self) -> Host:
        """Return one of the hosts."""
        return self.world.hosts[self.rng.choice(self.world.site.hosts)]

    def vm(self) -> str:
        """Return one of the VMs."""
        return self.rng.choice(list(self.world.site.home))

    def is_busy(self, vm: str) -> bool:
        """Claim that the cloud has a task with a VM, and lets nobody else at it."""
        return f"vm:{vm}" in self.actuator.running or vm in self.world.migrating

    def command(self, command: CommandName, target: str, until_s: float | None = None) -> None:
        """Let an operator say something."""
        until_us = None if until_s is None else self.kernel.now_us + round(until_s * SECOND_US)
        until = None if until_us is None else datetime.fromisoformat(from_microseconds(until_us))
        self.log.append(
            Command(
                command=command,
                target=target,
                until=until.astimezone(UTC) if until else None,
                by="operator:op-7",
                reason="simulated",
                command_id=f"{command}/{target}/{self.kernel.now_us}",
            )
        )


# ---- power, hosts, network, storage, guests --------------------------------------------------


def host_power(stage: Stage) -> Mend:
    """The supplies of a host fail."""
    host = stage.host()
    host.supply_ok = False

    def mend() -> None:
        host.supply_ok = True

    return mend


def host_hang(stage: Stage) -> Mend:
    """User space of a host stands still; its guests may go on writing; it may come back."""
    host = stage.host()
    if host.os != "up":
        return _nothing
    host.os, host.guests_run = "hung", stage.rng.random() < 0.7
    boots, wakes = host.boots, stage.rng.random() < 0.5

    def mend() -> None:
        if host.os == "hung" and host.boots == boots:
            if wakes:
                host.os = "up"
            else:
                stage.world.boot(host)

    return mend


def kernel_panic(stage: Stage) -> Mend:
    """A kernel panics, dumps and boots."""
    host = stage.host()
    if host.os == "up":
        stage.world.panic(host)
    return _nothing


def switch_loss(stage: Stage) -> Mend:
    """One ToR switch, or both of a rack."""
    rack = stage.rng.choice(RACKS)
    sides = SIDES if stage.rng.random() < 0.3 else (stage.rng.choice(SIDES),)

    def turn(*, works: bool) -> None:
        for side in sides:
            stage.world.switches[f"{rack}-{side}"] = works

    turn(works=False)
    return lambda: turn(works=True)


def link_cut(stage: Stage) -> Mend:
    """One cable of a host, or both."""
    host = stage.host()
    cards = (0, 1) if stage.rng.random() < 0.4 else (stage.rng.choice((0, 1)),)

    def turn(*, works: bool) -> None:
        for card in cards:
            stage.world.links[f"{host.name}/e{card}"] = works

    turn(works=False)
    return lambda: turn(works=True)


def lag_flap(stage: Stage) -> Mend:
    """One cable of a bond goes and comes."""
    link = f"{stage.host().name}/e{stage.rng.choice((0, 1))}"

    def turn(*, works: bool) -> None:
        stage.world.links[link] = works
        stage.world.settle()

    wait_s = 0.0
    for turns in range(8):
        stage.kernel.after(wait_s, lambda works=bool(turns % 2): turn(works=works))  # type: ignore[misc]
        wait_s += stage.rng.uniform(1.0, 4.0)
    return lambda: turn(works=True)


def pool_loss(stage: Stage) -> Mend:
    """The pool does not answer anybody."""
    stage.world.pool_ok = False

    def mend() -> None:
        stage.world.pool_ok = True

    return mend


def host_storage(stage: Stage) -> Mend:
    """The storage adapters of one host."""
    host = stage.host()
    host.storage_ok = False

    def mend() -> None:
        host.storage_ok = True

    return mend


def vm_crash(stage: Stage) -> Mend:
    """The process of a VM ends."""
    for copy in stage.world.copies_of(stage.vm()):
        copy.state = "crashed"
    return _nothing


def app_crash(stage: Stage) -> Mend:
    """An application ends."""
    app = stage.world.site.app_of[stage.vm()]
    stage.world.crashed_apps.add(app)
    return lambda: stage.world.crashed_apps.discard(app)


def bmc_dead(stage: Stage) -> Mend:
    """A management controller hangs."""
    host = stage.host()
    host.bmc_ok = False

    def mend() -> None:
        host.bmc_ok = True

    return mend


def plane_loss(stage: Stage) -> Mend:
    """The management network of one host or of all; or another plane of one host."""
    plane = stage.rng.choice(("mgmt", "mgmt", "tenant", "storage"))
    everywhere = plane == "mgmt" and stage.rng.random() < 0.5
    names = stage.world.site.hosts if everywhere else (stage.host().name,)
    cut = {(name, plane) for name in names}
    stage.world.cut_planes |= cut

    def mend() -> None:
        stage.world.cut_planes -= cut

    return mend


def feed_loss(stage: Stage) -> Mend:
    """One feed of a rack, or both."""
    rack = stage.rng.choice(RACKS)
    feeds = FEEDS if stage.rng.random() < 0.3 else (stage.rng.choice(FEEDS),)

    def turn(*, is_on: bool) -> None:
        for feed in feeds:
            stage.world.feeds[rack, feed] = is_on

    turn(is_on=False)
    return lambda: turn(is_on=True)


# ---- observers and the log -------------------------------------------------------------------


def isolated_prober(stage: Stage) -> Mend:
    """A prober that reaches nobody takes that for the end of everybody."""
    plane = stage.rng.choice(PLANES)
    entities = [f"host:{host}" for host in stage.world.hosts]
    lies = {Condition(one, "os.hb.lost", f"prober:{plane}", plane) for one in entities}
    stage.observers.lies |= lies

    def mend() -> None:
        stage.observers.lies -= lies

    return mend


def collector_crash(stage: Stage) -> Mend:
    """A collector ends; its host is well."""
    host = stage.host()
    host.agent_ok = False

    def mend() -> None:
        host.agent_ok = True

    return mend


def observers_cut_off(stage: Stage) -> Mend:
    """Some observers do not get through to the log."""
    everyone = [f"{kind}:{host}" for host in stage.world.hosts for kind in ("collector", "peer")]
    everyone += [f"prober:{plane}" for plane in ("mgmt", "tenant", "storage")]
    everyone += ["vnfm:probe", "nova:api", "hub:pulses", "poller:bmc"]
    stage.network.cut_off |= set(stage.rng.sample(everyone, stage.rng.randint(3, len(everyone))))
    stage.network.spools = stage.rng.random() < 0.5
    return stage.network.mend


def liar(stage: Stage) -> Mend:
    """One observer sees a healthy host fail in every way it knows."""
    host = stage.host().name
    source = f"peer:{stage.rng.choice(stage.world.site.peers(host))}"
    lies = {
        Condition(f"host:{host}", "os.hb.lost", source, "mgmt"),
        Condition(f"host:{host}", "peer.reach", source, "tenant"),
        Condition(f"host:{host}", "hw.power.off", source),
        Condition(f"vswitch:{host}", "vs.bfd.down", source),
        Condition(f"collector:{host}", "collector.lost", source),
    }
    for vm, place in stage.world.place.items():
        if place == host:
            lies.add(Condition(f"vm:{vm}", "vm.hb.lost", source))
    stage.observers.lies |= lies

    def mend() -> None:
        stage.observers.lies -= lies

    return mend


def wrong_clock(stage: Stage) -> Mend:
    """The clock of one observer is minutes off."""
    source = stage.rng.choice(("prober:mgmt", "prober:tenant", "vnfm:probe", "hub:pulses"))
    stage.observers.skew_s[source] = stage.rng.choice((-90.0, 90.0))

    def mend() -> None:
        stage.observers.skew_s.pop(source, None)

    return mend


def bmc_lies(stage: Stage) -> Mend:
    """A BMC says OFF once, to whoever asks next, and is on."""
    host = stage.host().name
    stage.actuator.lying_bmcs.add(host)
    off = Condition(f"host:{host}", "hw.power.off", f"redfish:{host}")
    stage.observers.say_wrongly(off, taken_back_s=4.0)
    return lambda: stage.actuator.lying_bmcs.discard(host)


def log_outage(stage: Stage) -> Mend:
    """The broker takes nothing for some seconds, then everything at once."""
    stage.log.is_out = True
    stage.kernel.after(stage.rng.uniform(2.0, 8.0), stage.log.return_to_service)
    return _nothing


# ---- actuators and correlators ---------------------------------------------------------------


def actuator_crash(stage: Stage) -> Mend:
    """The actuator ends, with what it was at left half done."""
    stage.actuator.alive = False
    stage.kernel.after(stage.rng.uniform(3.0, 30.0), stage.actuator.recover)
    return _nothing


def actuator_mood(stage: Stage) -> Mend:
    """The actuator answers late, twice, or says that what it did has timed out."""
    stage.actuator.mood = stage.rng.choice(("late", "twice", "stuck", "unsure"))

    def mend() -> None:
        stage.actuator.mood = ""

    return mend


def correlator_death(stage: Stage) -> Mend:
    """The holder dies at any step, or with an action decided on and not published."""
    if stage.log.engine is None or stage.log.is_out:
        return _nothing
    snapshot, engine = stage.log.snapshot(), stage.log.engine
    if stage.rng.random() < 0.5:
        stage.log.doom = stage.rng.random(), lambda: _die(stage, snapshot)

    def at_last() -> None:
        if stage.log.engine is engine:
            _die(stage, snapshot)

    stage.kernel.after(stage.rng.uniform(0.0, 15.0), at_last)
    return _nothing


def _die(stage: Stage, snapshot: tuple[int, str]) -> None:
    """End the holder; a successor claims; the dead one may yet wake and speak."""
    dead = stage.log.die()
    wakes = stage.rng.random() < 0.7

    def take_over() -> None:
        if stage.log.is_out:
            stage.kernel.after(1.0, take_over)
            return
        until = len(stage.log.records)
        stage.log.take_over(snapshot, dead)
        late = stage.log.late_words(dead, until)
        if wakes:
            stage.kernel.after(stage.rng.uniform(0.3, 8.0), lambda: stage.publish_late(late))

    stage.kernel.after(stage.rng.uniform(0.3, 4.0), take_over)


# ---- operators -------------------------------------------------------------------------------


def user_stop(stage: Stage) -> Mend:
    """A user stops a VM, and starts it again; the cloud refuses while a task of its own has it."""
    vm, world = stage.vm(), stage.world
    if stage.is_busy(vm) or vm in world.stopped:
        return _nothing
    world.stopped.add(vm)
    for copy in world.copies_of(vm):
        if world.answers(world.hosts[copy.host], "mgmt"):  # else it is stopped when found
            copy.state = "stopped"
    if stage.rng.random() < 0.5:
        return _nothing

    def start() -> None:
        host = world.hosts[world.place[vm]]
        if not stage.is_busy(vm) and world.answers(host, "mgmt") and vm in world.stopped:
            world.stopped.discard(vm)
            if not any(world.copies_of(vm)):
                world.new_copy(vm, host.name, "starting")

    return start


def user_migration(stage: Stage) -> Mend:
    """An operator of the cloud moves a VM, which nobody had announced."""
    vm, world = stage.vm(), stage.world
    others = [host.name for host in world.hosts.values() if host.name != world.place[vm]]
    to = stage.rng.choice(others)
    if stage.is_busy(vm) or vm in world.stopped:
        return _nothing

    def done(moved: bool) -> None:  # noqa: FBT001 - what a callback is called with
        if moved:
            stage.actuator.tell_placement(vm, to)

    world.migrate(vm, to, done)
    return _nothing


def power_button(stage: Stage) -> Mend:
    """Somebody switches a host on that was fenced, as soon as there is one."""

    def press() -> None:
        fenced = [h for h in stage.world.hosts.values() if not (h.soft_on and h.outlet_on)]
        idle = [host for host in fenced if host.name not in stage.actuator.in_maintenance]
        for host in idle[:1]:
            host.soft_on = host.outlet_on = True
            stage.world.settle()
        if not idle and stage.kernel.now_s < LAST_S:
            stage.kernel.after(2.0, press)

    press()
    return _nothing


def destination_dies(stage: Stage) -> Mend:
    """The host to which a VM is being brought loses power, as soon as there is one."""
    world, struck = stage.world, list[Host]()

    def strike() -> None:
        coming = [c.host for c in world.copies if c.state == "starting" and c.number > 1]
        for name in coming[:1]:
            world.hosts[name].supply_ok = False
            struck.append(world.hosts[name])
            world.settle()
        if not coming and stage.kernel.now_s < LAST_S:
            stage.kernel.after(1.0, strike)

    strike()

    def mend() -> None:
        for host in struck:
            host.supply_ok = True

    return mend


def panic_then_power(stage: Stage) -> Mend:
    """A kernel panics, and its host loses power while it dumps."""
    host = stage.host()
    if host.os == "up":
        stage.world.panic(host)

    def fail() -> None:
        host.supply_ok = False
        stage.world.settle()

    def mend() -> None:
        host.supply_ok = True

    stage.kernel.after(stage.rng.uniform(2.0, 18.0), fail)
    return mend


def uplink_cut(stage: Stage) -> Mend:
    """Nothing of some planes gets in or out of a rack; inside all goes on."""
    rack = stage.rng.choice(RACKS)
    planes = stage.rng.choice((("tenant",), ("mgmt",), ("storage",), ("mgmt", "tenant"), PLANES))
    cut = {(rack, plane) for plane in planes}
    stage.world.cut_uplinks |= cut

    def mend() -> None:
        stage.world.cut_uplinks -= cut

    return mend


def maintenance(stage: Stage) -> Mend:
    """An operator announces it, takes a host down, and brings it back."""
    host, span_s = stage.host(), stage.rng.uniform(40.0, 70.0)
    entity = f"host:{host.name}"
    if entity in stage.actuator.running or host.os != "up":
        return _nothing
    stage.command("maintenance_start", entity, span_s + 60.0)
    stage.actuator.in_maintenance.add(host.name)

    def turn(*, is_on: bool) -> None:
        host.soft_on = is_on
        stage.world.settle()

    def end() -> None:
        stage.actuator.in_maintenance.discard(host.name)
        stage.command("maintenance_end", entity)

    stage.kernel.after(3.0, lambda: turn(is_on=False))
    stage.kernel.after(span_s, lambda: turn(is_on=True))
    stage.kernel.after(span_s + 40.0, end)
    return _nothing


def hold(stage: Stage) -> Mend:
    """An operator holds the domain."""
    stage.command("hold", "domain")
    return lambda: stage.command("release", "domain")


def _nothing() -> None:
    """Mends itself, or is mended by the operators' rounds."""


PHYSICAL: dict[Callable[[Stage], Mend], int] = {
    host_power: 5,
    host_hang: 5,
    kernel_panic: 3,
    switch_loss: 2,
    link_cut: 3,
    lag_flap: 2,
    pool_loss: 1,
    host_storage: 1,
    vm_crash: 2,
    app_crash: 1,
    bmc_dead: 2,
    plane_loss: 3,
    feed_loss: 2,
    uplink_cut: 2,
    panic_then_power: 1,
    destination_dies: 1,
}
"""Fault → how often, against the others."""
OTHERS: dict[Callable[[Stage], Mend], int] = {
    collector_crash: 2,
    observers_cut_off: 3,
    liar: 2,
    isolated_prober: 1,
    wrong_clock: 1,
    bmc_lies: 1,
    log_outage: 2,
    actuator_crash: 3,
    actuator_mood: 4,
    correlator_death: 5,
    user_stop: 3,
    user_migration: 2,
    power_button: 1,
    maintenance: 3,
    hold: 3,
}
BY_NAME = {fault.__name__: fault for fault in (*PHYSICAL, *OTHERS)}
