"""Rules about groups and their VIPs."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, ip_interface

from hawatch.config.positions import Path
from hawatch.config.problems import Finding, nearest
from hawatch.config.schema import Config, Group


def group_names(config: Config) -> Iterator[Finding]:
    """Every group has a name of its own."""
    seen: set[str] = set()
    for number, group in enumerate(config.group):
        if group.name in seen:
            yield Finding(("group", number, "name"), f'a second group named "{group.name}"', "a name for each group")
        seen.add(group.name)


def preferred(config: Config) -> Iterator[Finding]:
    """A group prefers one of the directors."""
    directors = [node.name for node in config.director]
    for number, group in enumerate(config.group):
        if group.prefer and group.prefer not in directors:
            is_witness = group.prefer in {node.name for node in config.witness}
            yield Finding(
                ("group", number, "prefer"),
                "a witness owns nothing"
                if is_witness
                else f"no director of this name{nearest(group.prefer, directors)}",
                ", ".join(directors) or "no director is named in this file: leave it out",
                depends=(("director", "*", "name"),),
            )


def addresses(config: Config) -> Iterator[Finding]:
    """Every group has a VIP, and a VIP is one group's, once."""
    seen: dict[str, str] = {}
    for number, group in enumerate(config.group):
        if not group.addresses:
            yield Finding(
                ("group", number, "addresses"),
                "a group without an address",
                'at least one, like addresses = [{ address = "192.168.1.110/32", interface = "eth0" }]',
                depends=(("group", number, "addresses", "*"),),
            )
        for place, vip in enumerate(group.addresses):
            address = vip.address.partition("/")[0]
            if address in seen:
                other = "this group" if seen[address] == group.name else f'group "{seen[address]}"'
                yield Finding(
                    ("group", number, "addresses", place, "address"), f"a VIP of {other} already", "each once"
                )
            seen.setdefault(address, group.name)


def labels(config: Config) -> Iterator[Finding]:
    """A label is IPv4's, and begins with the interface's name."""
    for number, group in enumerate(config.group):
        for place, vip in enumerate(group.addresses):
            here: Path = ("group", number, "addresses", place, "label")
            if vip.label and ":" in vip.address:
                yield Finding(here, "an IPv6 address has no label", "no label")
            elif vip.label and not is_label(vip.label, vip.interface):
                yield Finding(here, "no label of this interface", f'"{vip.interface}:" and a short word, 15 in all')


def is_label(label: str, interface: str) -> bool:
    """Tell whether the tools show an address with this label as one of the interface."""
    tail = label.removeprefix(interface)
    return tail != label and tail.startswith(":") and len(tail) > 1 and tail.isascii() and tail.isprintable()


def network_addresses(config: Config) -> Iterator[Finding]:
    """A VIP is a host's address, not its network's or the broadcast address."""
    for number, group in enumerate(config.group):
        for place, vip in enumerate(group.addresses):
            interface = ip_interface(vip.address)
            if not isinstance(interface, IPv4Interface) or interface.network.prefixlen >= 31:
                continue
            network = interface.network
            if interface.ip in (network.network_address, network.broadcast_address):
                yield Finding(
                    ("group", number, "addresses", place, "address"),
                    f"the first or the last address of {network} is no host's",
                    "a host's address",
                )


def vip_owners(config: Config) -> dict[str, Group]:
    """Return the group of each VIP, by address without prefix length."""
    return {vip.address.partition("/")[0]: group for group in reversed(config.group) for vip in group.addresses}


def notify_programs(config: Config) -> Iterator[Finding]:
    """A program that is told of a group's state is named, and by its whole path."""
    for number, group in enumerate(config.group):
        if group.notify is None:
            continue
        here = ("group", number, "notify")
        programs = {key: getattr(group.notify, key) for key in ("owner", "standby", "conflict", "every")}
        if not any(programs.values()):
            yield Finding(here, "no program", "owner, standby, conflict or every")
        for key, program in programs.items():
            if program and not program[0].startswith("/"):
                yield Finding((*here, key), "not an absolute path", '["/path/of/program", "argument"]', program[0])


RULES = (notify_programs, group_names, preferred, addresses, labels, network_addresses)
