"""What works at one moment, given what is broken. Nothing here knows who watches.

A broken thing is a pair such as ``("card", "n1-02/e0")``; all else follows from these.
"""

from bench.second.world import PLANES, Agent, App, Host, Site, Vm

Broken = frozenset[tuple[str, str]]
STALL_S = 8.0
"""A guest lives so long on its cache when its disks no longer answer."""


class Physics:
    """One moment of a site. `earlier` is what was broken `STALL_S` before."""

    def __init__(self, site: Site, broken: Broken, earlier: Broken | None = None) -> None:
        self.site, self.broken = site, broken
        racks, hosts = site.racks.values(), site.hosts.values()
        self.lit = {r.name for r in racks if any(self.whole("feed", f) for f in r.feeds)}
        switches = ((rack, switch) for rack in racks for switch in (*rack.tors, rack.mgmt))
        self.switches = {s for r, s in switches if r.name in self.lit and self.whole("switch", s)}
        self.powered = {h.name for h in hosts if h.rack in self.lit and self.whole("power", h.name)}
        self.kernel = {name for name in self.powered if self.whole("kernel", name)}
        self.user = {name for name in self.kernel if self.whole("user", name)}
        self.carrier = {
            card
            for host in hosts
            if host.name in self.powered
            for card, switch in host.cards.items()
            if switch in self.switches and self.whole("card", card)
        }
        self.stored = {host.name for host in hosts if self._stores(host)}
        before = self if earlier is None else Physics(site, earlier)
        self.stalled = set(site.hosts) - self.stored - before.stored
        self.healthy: set[str] = set()
        for app in site.apps.values():  # callees come first
            if self.serves(app) and all(callee in self.healthy for callee in app.calls):
                self.healthy.add(app.name)

    def whole(self, what: str, name: str) -> bool:
        """Claim that nothing is broken about a thing itself."""
        return (what, name) not in self.broken

    # ---- networks

    def wired(self, host: Host, plane: str) -> bool:
        """Claim that a host reaches a switch of its rack on a plane."""
        return any(card in self.carrier for card in host.planes[plane])

    def routed(self, host: Host, plane: str) -> bool:
        """Claim that a host reaches the fabric beyond its rack on a plane."""
        through_tors = host.bond_of(plane) is not None
        cut = through_tors and not self.whole("uplink", host.rack)
        return self.wired(host, plane) and not cut

    def reaches(self, one: Host, other: Host, plane: str) -> bool:
        """Claim that packets of a plane go between two hosts."""
        go = self.wired if one.rack == other.rack else self.routed
        return go(one, plane) and go(other, plane)

    def answers(self, prober: Host, host: Host, plane: str) -> bool:
        """Claim that the agent of a host answers a prober's challenge on a plane."""
        return host.name in self.user and self.reaches(prober, host, plane)

    def isolated(self, host: Host) -> bool:
        """Claim that no plane of a host reaches beyond its rack."""
        return not any(self.routed(host, plane) for plane in PLANES)

    def reports(self, name: str) -> bool:
        """Claim that a host's collector gets its words to the log, over whichever plane."""
        alive = name in self.user and self.whole("observer", name)
        return alive and not self.isolated(self.site.hosts[name])

    def bmc_answers(self, host: Host) -> bool:
        """Claim that a host's BMC has power, works and is reached."""
        alive = self.whole("bmc", host.name) and self.whole("standby", host.name)
        return alive and host.rack in self.lit and self.site.racks[host.rack].mgmt in self.switches

    # ---- storage

    def path_works(self, host: Host, path: str) -> bool:
        """Claim that requests down one path are answered."""
        whole = self.whole("path", path) and self.whole("pool", host.pool)
        return whole and self.routed(host, "storage")

    def _stores(self, host: Host) -> bool:
        return any(self.path_works(host, path) for path in host.paths)

    # ---- guests

    def process(self, vm: Vm) -> bool:
        """Claim that the VM's process exists and could write again, were its host set free."""
        return vm.host in self.kernel and self.whole("vm", vm.name)

    def runs(self, vm: Vm) -> bool:
        """Claim that the guest computes."""
        alive = vm.host in self.user and vm.host not in self.stalled
        return alive and self.process(vm) and self.whole("guest", vm.name)

    def switched(self, vm: Vm) -> bool:
        """Claim that the VM's frames reach the fabric."""
        return self.whole("vswitch", vm.host) and self.routed(self.site.hosts[vm.host], "tenant")

    def reached(self, vm: Vm) -> bool:
        """Claim that a guest answers from outside."""
        return self.runs(vm) and self.switched(vm)

    def serves(self, app: App) -> bool:
        """Claim that an application works and is reached from outside."""
        return self.whole("app", app.name) and self.reached(self.site.vms[app.vm])

    def agent_reports(self, agent: Agent) -> bool:
        """Claim that a network agent lives and reaches the control plane."""
        alive = agent.host in self.user and self.whole("agent", agent.name)
        return alive and self.routed(self.site.hosts[agent.host], "mgmt")

    def agent_forwards(self, agent: Agent) -> bool:
        """Claim that a network agent lives and its router is reached on the tenant plane."""
        alive = agent.host in self.user and self.whole("agent", agent.name)
        here = self.whole("vswitch", agent.host)
        return alive and here and self.routed(self.site.hosts[agent.host], "tenant")

    def well(self, name: str) -> bool:
        """Claim that a host is none to be fenced: on, computing, storing, and reached."""
        here = name in self.user and name in self.stored
        return here and not self.isolated(self.site.hosts[name])
