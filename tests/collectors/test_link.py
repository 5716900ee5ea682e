"""The source `link` on a scripted kernel: its contract, and what it makes of devices and bonds.

`tests/root/test_link.py` puts it through the same contract on the real kernel.
"""

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest
from pyroute2.netlink.rtnl import RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from collectors.link import LinkOptions, World
from collectors.netlink import Device, Gone, Netlink
from collectors.source import Context
from schemas.inputs import Event, Input
from tests.collectors.contract import SourceContract
from tests.collectors.contract import World as TurnedWorld
from tests.collectors.kernel import card, scripted

MII_DOWN = 2
"""BOND_LINK_DOWN."""


class TestContract(SourceContract):
    def world(self) -> AbstractContextManager[TurnedWorld]:
        return scripted()


def world(**options: object) -> World:
    return World(Context("collector:h1", "link"), LinkOptions.model_validate(options))


def said(inputs: list[Input]) -> list[tuple[str, str, str, dict[str, Any]]]:
    events = [one for one in inputs if isinstance(one, Event)]
    return [(one.state, one.signal, one.entity, one.attrs) for one in events]


def after(one: World, *news: Device | Gone) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Return what is said of the last news."""
    for news_before in news[:-1]:
        one.take(news_before)
    return said(one.take(news[-1]))


def down(device: Device, **more: object) -> Device:
    return replace(device, has_carrier=False, **more)  # type: ignore[arg-type]


E0, E1 = card(2, "e0"), card(3, "e1")


def test_a_card_without_carrier_says_whether_it_was_switched_off() -> None:
    raised = ("raised", "nic.carrier.down", "nic:h1/e0")
    assert after(world(), E0, down(E0)) == [(*raised, {"admin": "up"})]
    assert after(world(), E0, down(E0, is_up=False)) == [(*raised, {"admin": "down"})]


def test_a_card_that_nobody_has_switched_on_is_not_in_use() -> None:
    assert after(world(), down(E0, is_up=False)) == []
    assert after(world(), down(E0)) != []


@pytest.mark.parametrize("kind", ["bridge", "vxlan", "veth", "bond", "tun"])
def test_what_is_made_of_software_is_no_card_unless_the_site_names_it(kind: str) -> None:
    device = down(replace(E0, kind=kind))
    assert after(world(), device) == []
    assert after(world(interfaces=["e*"]), device) != []


def test_only_what_the_site_names_is_told() -> None:
    one = world(interfaces=["e0"])
    assert after(one, down(E1)) == []
    assert len(after(one, down(E0))) == 1


def test_a_named_card_that_is_not_there_has_no_carrier() -> None:
    one = world(interfaces=["e0", "p*"])
    absent = ("nic.carrier.down", "nic:h1/e0", {"device": "absent"})
    assert said(one.keep_only(set())) == [("raised", *absent)]
    assert said(one.keep_only(set())) == []


def test_a_card_that_is_taken_out_is_told_of_no_more_unless_it_is_named() -> None:
    assert after(world(), E0, down(E0), Gone(2)) == [
        ("cleared", "nic.carrier.down", "nic:h1/e0", {"admin": "up"})
    ]
    named = after(world(interfaces=["e0"]), E0, Gone(2))
    assert named == [("raised", "nic.carrier.down", "nic:h1/e0", {"device": "absent"})]


def test_a_renamed_card_is_another_one() -> None:
    states = {(one[0], one[2]) for one in after(world(), down(E0), down(replace(E0, name="n0")))}
    assert states == {("cleared", "nic:h1/e0"), ("raised", "nic:h1/n0")}


def test_of_a_switch_the_ports_are_told_and_no_bonds() -> None:
    one = world(switch="tor1", lags={"bond0": ["e0", "e1"]})
    assert after(one, E0, E1, down(E0)) == [
        ("raised", "tor.port.down", "switch_port:tor1/e0", {"admin": "up"})
    ]


def test_a_declared_bond_follows_the_carriers_of_its_members() -> None:
    one = world(lags={"bond0": ["e0", "e1"]})
    one.take(E0)
    one.take(E1)
    first = said(one.take(down(E0)))
    assert first[1:] == [("raised", "vs.bond.member_down", "lag:h1/bond0", {"member": "e0"})]
    second = said(one.take(down(E1)))
    assert ("raised", "vs.bond.all_down", "lag:h1/bond0", {}) in second
    assert ("raised", "vs.bond.member_down", "lag:h1/bond0", {"member": "e0,e1"}) in second
    third = said(one.take(E0))
    assert ("cleared", "vs.bond.all_down", "lag:h1/bond0", {}) in third


BOND = Device(9, "bond0", is_up=True, has_carrier=True, kind="bond", active=2)
M0, M1 = replace(E0, master=9, mii_status=0), replace(E1, master=9, mii_status=0)


def bonded() -> World:
    one = world()
    for device in (BOND, M0, M1):
        one.take(device)
    return one


def test_a_bond_of_the_kernel_fails_over() -> None:
    """The kernel's order: the carrier, then the bond's monitor, then the switch-over."""
    one = bonded()
    carrier = said(one.take(down(M0)))
    assert carrier == [("raised", "nic.carrier.down", "nic:h1/e0", {"admin": "up", "active": True})]
    member = said(one.take(down(M0, mii_status=MII_DOWN)))
    attrs = {"member": "e0", "active": True}
    assert member == [("raised", "vs.bond.member_down", "lag:h1/bond0", attrs)]
    switched = said(one.take(replace(BOND, active=3)))
    assert switched == [("raised", "vs.bond.active_changed", "lag:h1/bond0", {})]
    mended = said([*one.take(replace(M0, mii_status=3)), *one.take(M0)])
    assert {(state, signal) for state, signal, _, _ in mended} == {
        ("cleared", "nic.carrier.down"),
        ("cleared", "vs.bond.member_down"),
        ("cleared", "vs.bond.active_changed"),
    }


def test_a_bond_that_is_moved_on_purpose_says_nothing() -> None:
    assert said(bonded().take(replace(BOND, active=3))) == []


def test_a_member_that_carried_nothing_is_not_called_active() -> None:
    assert said(bonded().take(down(M1)))[0][3] == {"admin": "up"}


def test_a_bond_without_members_that_work_is_all_down() -> None:
    one = bonded()
    one.take(down(M0, mii_status=MII_DOWN))
    told = said(one.take(down(M1, mii_status=MII_DOWN)))
    assert ("raised", "vs.bond.all_down", "lag:h1/bond0", {}) in told


def test_the_words_of_the_kernel_about_a_bond_are_understood() -> None:
    """The attributes are those of include/uapi/linux/if_link.h; there is no bond here to ask."""
    slave = [["IFLA_BOND_SLAVE_STATE", 1], ["IFLA_BOND_SLAVE_MII_STATUS", 2]]
    member = _message(
        5,
        "ens1f0",
        ["IFLA_MASTER", 9],
        [
            "IFLA_LINKINFO",
            {
                "attrs": [
                    ["IFLA_INFO_SLAVE_KIND", "bond"],
                    ["IFLA_INFO_SLAVE_DATA", {"attrs": slave}],
                ]
            },
        ],
    )
    active = [["IFLA_BOND_MODE", 1], ["IFLA_BOND_ACTIVE_SLAVE", 6]]
    bond = _message(
        9,
        "bond0",
        [
            "IFLA_LINKINFO",
            {"attrs": [["IFLA_INFO_KIND", "bond"], ["IFLA_INFO_DATA", {"attrs": active}]]},
        ],
    )
    with Netlink() as netlink:
        assert list(netlink.news(member + bond)) == [
            Device(5, "ens1f0", is_up=True, has_carrier=False, master=9, mii_status=2),
            Device(9, "bond0", is_up=True, has_carrier=False, kind="bond", active=6),
        ]


def _message(index: int, name: str, *attrs: list[Any]) -> bytes:
    message = ifinfmsg()
    message["index"], message["flags"] = index, 1
    message["attrs"] = [["IFLA_IFNAME", name], *attrs]
    message["header"]["type"] = RTM_NEWLINK
    message.encode()
    return bytes(message.data)
