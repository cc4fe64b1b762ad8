"""What the gate is made of in nftables: tables, sets, maps, chains and rules, as lists of requests. No I/O.

Theory of operation. Maps lead from a VIP to the chain of its group; there a packet passes if the group is both armed
and active in one of two slots, else it is counted and dropped. The four sets of a group (``armed0_web``,
``active0_web`` and so on) hold nothing but the packet's netfilter family, so to arm, activate or close a group is to
touch one element of a set, however many VIPs it has. Elements of the armed sets have a timeout; the kernel looks at it
when a packet comes, not when it tidies up.

What is looked at: packets to a VIP, before conntrack and IPVS see them (``in4``, ``in6``); packets that this machine
itself sends from a VIP (``out4``, ``out6``); ARP that claims a VIP as its sender (``arp4``); neighbour advertisements
for a VIP (``na6``).

In a `shared` group this director is a real server too: what the owner forwards to it (known by its MAC) passes though
the gate is closed, and its answers are not looked at. ARP and advertisements stay closed. The open gate takes nothing
from a forwarder: a standby that forwards to the owner has a table that its agent could not empty (it was killed, it is
frozen), and the packet would come back to it, and circle until its TTL is used up.

Three layouts say which tables hold the chains: ``INET`` for every common kernel; ``SPLIT`` where the kernel has no inet
family; ``BRIDGE`` where it has neither, which works only for VIPs on a bridge.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import ip_address

from hawatch.actions import nft
from hawatch.actions.netlink_codec import Request
from hawatch.actions.nft import ChainSpec, DataType, Element, Nfproto, SetSpec, Table
from hawatch.model import Family

PRIORITY = -310
"""Before connection tracking (-200) and IPVS, and before the raw tables of a firewall (-300)."""
LABEL_CHARACTERS = 40
"""A group's name of this length stands as it is in the names of sets and chains."""
CLOSING_TIMEOUT_NS = 10_000_000_000
"""Timeout of an element that is added only to be deleted in the same transaction: it must not run out meanwhile."""

KEPT_MAX = 1024
"""Orders kept to be given again: one for each slot of 500 groups."""

FORWARDERS = "forwarders"
SLOTS = (0, 1)

HOOK_PREROUTING = 0
HOOK_OUTPUT = 3
HOOK_ARP_OUTPUT = 1
ICMPV6 = 58
NEIGHBOUR_ADVERTISEMENT = 136


@dataclass(frozen=True, slots=True)
class GateGroup:
    """The VIPs that open and close together."""

    addresses: tuple[str, ...]
    shared: bool = False
    """This director is a real server of the group too."""


@dataclass(frozen=True, slots=True)
class _Check:
    """One way by which a VIP could be answered for."""

    name: str
    base: str
    """Base chain that it hangs on."""
    guard: tuple[bytes, ...]
    load: bytes
    family: Family


def _checks4(guard: tuple[bytes, ...]) -> tuple[_Check, ...]:
    return (
        _Check("in4", "input", guard, nft.payload(nft.BASE_NETWORK, 16, 4), Family.IPV4),
        _Check("out4", "output", guard, nft.payload(nft.BASE_NETWORK, 12, 4), Family.IPV4),
    )


def _checks6(guard: tuple[bytes, ...]) -> tuple[_Check, ...]:
    is_advertisement = (
        nft.meta(nft.META_L4PROTO),
        nft.equals(bytes((ICMPV6,))),
        nft.payload(nft.BASE_TRANSPORT, 0, 1),
        nft.equals(bytes((NEIGHBOUR_ADVERTISEMENT,))),
    )
    # The target of an advertisement is 8 bytes into ICMPv6 (RFC 4861, section 4.4).
    target = nft.payload(nft.BASE_TRANSPORT, 8, 16)
    return (
        _Check("in6", "input", guard, nft.payload(nft.BASE_NETWORK, 24, 16), Family.IPV6),
        _Check("na6", "output", (*guard, *is_advertisement), target, Family.IPV6),
        _Check("out6", "output", guard, nft.payload(nft.BASE_NETWORK, 8, 16), Family.IPV6),
    )


def _checks_arp(guard: tuple[bytes, ...]) -> tuple[_Check, ...]:
    # Sender protocol address of ARP over Ethernet (RFC 826): 8 bytes of header, then the sender's MAC.
    return (_Check("arp4", "output", guard, nft.payload(nft.BASE_NETWORK, 14, 4), Family.IPV4),)


def _is_nfproto(family: Nfproto) -> tuple[bytes, ...]:
    return nft.meta(nft.META_NFPROTO), nft.equals(bytes((family,)))


def _is_ethertype(number: int) -> tuple[bytes, ...]:
    return nft.meta(nft.META_PROTOCOL), nft.equals(number.to_bytes(2, "big"))


@dataclass(frozen=True, slots=True)
class _TableSpec:
    family: Nfproto
    seen: tuple[Nfproto, ...]
    """The netfilter families that packets have here: the elements of the sets."""
    checks: tuple[_Check, ...]


class Layout(Enum):
    """Which tables hold the gate."""

    INET = "inet"
    SPLIT = "split"
    BRIDGE = "bridge"


_INET_CHECKS = _checks4(_is_nfproto(Nfproto.IPV4)) + _checks6(_is_nfproto(Nfproto.IPV6))
_BRIDGE_CHECKS = _checks4(_is_ethertype(0x0800)) + _checks6(_is_ethertype(0x86DD)) + _checks_arp(_is_ethertype(0x0806))
_ARP_TABLE = _TableSpec(Nfproto.ARP, (Nfproto.ARP,), _checks_arp(()))
_TABLES: Mapping[Layout, tuple[_TableSpec, ...]] = {
    Layout.INET: (_TableSpec(Nfproto.INET, (Nfproto.IPV4, Nfproto.IPV6), _INET_CHECKS), _ARP_TABLE),
    Layout.SPLIT: (
        _TableSpec(Nfproto.IPV4, (Nfproto.IPV4,), _checks4(())),
        _TableSpec(Nfproto.IPV6, (Nfproto.IPV6,), _checks6(())),
        _ARP_TABLE,
    ),
    Layout.BRIDGE: (_TableSpec(Nfproto.BRIDGE, (Nfproto.BRIDGE,), _BRIDGE_CHECKS),),
}


def label(group: str) -> str:
    """Return a group's name as it stands in names of sets and chains, such as the `nft` program can read back."""
    if re.fullmatch(rf"[A-Za-z0-9_]{{1,{LABEL_CHARACTERS}}}", group):
        return group
    plain = re.sub(r"[^A-Za-z0-9_]", "_", group)[: LABEL_CHARACTERS - 9]
    return f"{plain}_{hashlib.sha256(group.encode()).hexdigest()[:8]}"


def armed(slot: int, group: str) -> str:
    """Return the name of the set with the timer of a slot."""
    return f"armed{slot}_{label(group)}"


def active(slot: int, group: str) -> str:
    """Return the name of the set with the active bit of a slot."""
    return f"active{slot}_{label(group)}"


def tables(layout: Layout, name: str) -> tuple[Table, ...]:
    """Return the tables of a layout."""
    return tuple(Table(spec.family, name) for spec in _TABLES[layout])


def map_names(layout: Layout, name: str) -> tuple[tuple[Table, str], ...]:
    """Return the maps from VIPs to chains."""
    return tuple((Table(spec.family, name), f"vips_{check.name}") for spec in _TABLES[layout] for check in spec.checks)


def map_elements(
    layout: Layout, name: str, groups: Mapping[str, GateGroup]
) -> dict[tuple[Table, str], dict[bytes, str]]:
    """Return what each map holds: VIP to chain; raise ValueError when two groups claim one VIP."""
    found: dict[tuple[Table, str], dict[bytes, str]] = {}
    for spec in _TABLES[layout]:
        for check in spec.checks:
            found[Table(spec.family, name), f"vips_{check.name}"] = _members(check, groups)
    return found


def _members(check: _Check, groups: Mapping[str, GateGroup]) -> dict[bytes, str]:
    wanted: dict[bytes, str] = {}
    for group, one in groups.items():
        chain = f"{check.name}_{label(group)}"
        for address in one.addresses:
            if Family.of(address) is not check.family or _passes_freely(check, one):
                continue
            if wanted.setdefault(ip_address(address).packed, chain) != chain:
                raise ValueError(f"{address} belongs to two groups, {group} is one of them")
    return wanted


def _passes_freely(check: _Check, group: GateGroup) -> bool:
    return group.shared and check.name in ("out4", "out6")


def install(layout: Layout, name: str, groups: Mapping[str, GateGroup], table_flags: int) -> list[Request]:
    """Return what makes tables, sets, maps, chains and rules; what is there already is kept, rules are replaced.

    In one transaction packets see the old rules or the new ones, never none; elements of sets and maps stay.
    """
    requests: list[Request] = []
    for spec in _TABLES[layout]:
        table = Table(spec.family, name)
        requests.append(nft.new_table(table, table_flags))
        requests.extend(nft.new_set(table, one, number) for number, one in enumerate(_sets(spec, groups), 1))
        requests.extend(nft.new_chain(table, one) for one in _chains(spec, groups))
        requests.append(nft.delete_rules(table))
        requests.extend(nft.new_rule(table, *rule) for rule in _rules(spec, groups))
    return requests


def retire(layout: Layout, name: str, labels: Sequence[str]) -> list[Request]:
    """Return what deletes the chains and sets of groups that are no more, given as labels, once no map leads there."""
    requests: list[Request] = []
    for spec in _TABLES[layout]:
        table = Table(spec.family, name)
        for one in labels:
            requests.extend(nft.delete_chain(table, f"{check.name}_{one}") for check in spec.checks)
            requests.extend(
                nft.delete_set(table, f"{kind}{slot}_{one}") for kind in ("armed", "active") for slot in SLOTS
            )
    return requests


def labels_of_sets(names: Sequence[str]) -> set[str]:
    """Return the labels of the groups whose sets are among `names`."""
    return {name.removeprefix("armed0_") for name in names if name.startswith("armed0_")}


def rule_counts(layout: Layout, name: str, groups: Mapping[str, GateGroup]) -> dict[tuple[Table, str], int]:
    """Return how many rules each chain of the gate has."""
    counts: dict[tuple[Table, str], int] = {}
    for spec in _TABLES[layout]:
        for chain, _, _ in _rules(spec, groups):
            key = (Table(spec.family, name), chain)
            counts[key] = counts.get(key, 0) + 1
    return counts


@lru_cache(KEPT_MAX)
def arm(layout: Layout, name: str, group: str, slot: int, timeout_ns: int) -> tuple[Request, ...]:
    """Return what clears the slot's active bit and starts its timer anew; renewals ask for the same again and again.

    Adding again does not refresh a timer, so the element is deleted first; and because deleting what is not there
    fails the transaction, it is added before that. Works on all kernels alike.
    """
    requests: list[Request] = []
    for spec in _TABLES[layout]:
        table = Table(spec.family, name)
        requests.extend(_remove(table, active(slot, group), _elements(spec)))
        requests.extend(_remove(table, armed(slot, group), _elements(spec, timeout_ns)))
        requests.append(nft.add_elements(table, armed(slot, group), _elements(spec, timeout_ns)))
    return tuple(requests)


@lru_cache(KEPT_MAX)
def activate(layout: Layout, name: str, group: str, slot: int) -> tuple[Request, ...]:
    """Return what sets the slot's active bit."""
    tables_of = ((Table(spec.family, name), spec) for spec in _TABLES[layout])
    return tuple(nft.add_elements(table, active(slot, group), _elements(spec)) for table, spec in tables_of)


def close(layout: Layout, name: str, group: str) -> list[Request]:
    """Return what empties all four sets of a group."""
    requests: list[Request] = []
    for spec in _TABLES[layout]:
        table = Table(spec.family, name)
        for slot in SLOTS:
            requests.extend(_remove(table, active(slot, group), _elements(spec)))
            requests.extend(_remove(table, armed(slot, group), _elements(spec, CLOSING_TIMEOUT_NS)))
    return requests


def map_changes(table: Table, map_name: str, have: Mapping[bytes, str], want: Mapping[bytes, str]) -> list[Request]:
    """Return what turns the elements of a set or map into others."""
    gone = [Element(key) for key, jump in have.items() if want.get(key) != jump]
    new = [Element(key, jump) for key, jump in want.items() if have.get(key) != jump]
    requests = [nft.delete_elements(table, map_name, gone)] if gone else []
    if new:
        requests.append(nft.add_elements(table, map_name, new))
    return requests


def _elements(spec: _TableSpec, timeout_ns: int = 0) -> tuple[Element, ...]:
    return tuple(Element(bytes((family,)), timeout_ns=timeout_ns) for family in spec.seen)


def _remove(table: Table, set_name: str, elements: tuple[Element, ...]) -> tuple[Request, Request]:
    return nft.add_elements(table, set_name, elements), nft.delete_elements(table, set_name, elements)


def _sets(spec: _TableSpec, groups: Mapping[str, GateGroup]) -> Iterator[SetSpec]:
    for check in spec.checks:
        key, size = (DataType.IPV4, 4) if check.family is Family.IPV4 else (DataType.IPV6, 16)
        yield SetSpec(f"vips_{check.name}", key, size, verdicts=True)
    for group in groups:
        for slot in SLOTS:
            yield SetSpec(armed(slot, group), DataType.NFPROTO, 1, timeout=True)
            yield SetSpec(active(slot, group), DataType.NFPROTO, 1)
    yield SetSpec(FORWARDERS, DataType.ETHER, 6)


def _chains(spec: _TableSpec, groups: Mapping[str, GateGroup]) -> Iterator[ChainSpec]:
    output = HOOK_ARP_OUTPUT if spec.family is Nfproto.ARP else HOOK_OUTPUT
    for base in dict.fromkeys(check.base for check in spec.checks):
        yield ChainSpec(base, HOOK_PREROUTING if base == "input" else output, PRIORITY)
    for group in groups:
        for check in spec.checks:
            yield ChainSpec(f"{check.name}_{label(group)}")


def _rules(spec: _TableSpec, groups: Mapping[str, GateGroup]) -> Iterator[tuple[str, tuple[bytes, ...], str]]:
    """Yield chain, expressions and comment of each rule."""
    accept, drop = nft.verdict(nft.VERDICT_ACCEPT), nft.verdict(nft.VERDICT_DROP)
    family = nft.meta(nft.META_NFPROTO)
    for check in spec.checks:
        yield check.base, (*check.guard, check.load, nft.jump_by(f"vips_{check.name}")), ""
    for group, one in groups.items():
        for check in spec.checks:
            chain = f"{check.name}_{label(group)}"
            forwarded = (nft.payload(nft.BASE_LINK, 6, 6), nft.lookup(FORWARDERS))
            takes_forwarded = one.shared and check.base == "input"
            for slot in SLOTS:
                in_slot = (family, nft.lookup(armed(slot, group)), family, nft.lookup(active(slot, group)))
                if takes_forwarded:
                    yield chain, (*in_slot, *forwarded, nft.counter(), drop), "forwarded to the owner"
                yield chain, (*in_slot, accept), ""
            if takes_forwarded:
                yield chain, (*forwarded, accept), "forwarded by the owner"
            yield chain, (nft.counter(), drop), "not the owner"
