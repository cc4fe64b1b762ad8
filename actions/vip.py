"""The addresses of groups on this machine's interfaces, by rtnetlink.

An address is put up without duplicate address detection (two directors never have it at once, and a wait would be an
outage), as deprecated (preferred lifetime 0), so that no connection of this machine begins from it. Under a lease it
has a valid lifetime: an agent that is gone for good leaves no litter. To put up what is there already renews its
lifetime. An address that the system brought up is not deprecated: that tells it from one of ours.

References: linux/if_addr.h, linux/rtnetlink.h; RFC 4862 section 5.5.4 (deprecated addresses).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import dataclass
from ipaddress import ip_address

from hawatch.actions.netlink import NETLINK_ROUTE, NetlinkSocket
from hawatch.actions.netlink_codec import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    Request,
    attribute,
    attribute_string,
    attribute_u32,
    parse_attributes,
)
from hawatch.model import NS_PER_S, Family

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 3, 6, 8
IFA_F_NODAD, IFA_F_DEPRECATED, IFA_F_PERMANENT = 0x02, 0x20, 0x80
IFADDRMSG = struct.Struct("=BBBBI")
"""Family, prefix length, flags, scope, index of the interface."""
CACHEINFO = struct.Struct("=IIII")
"""Preferred and valid lifetime in seconds, time of creation and of change."""
ADDRESS_GROUPS = (5, 9)
"""RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR."""
LINK_GROUP = 1
"""RTNLGRP_LINK."""
FOREVER = 0xFFFFFFFF
LOOPBACK_INDEX = 1
"""Every network namespace has its loopback interface there (LOOPBACK_IFINDEX)."""
GONE = (errno.EADDRNOTAVAIL, errno.ENODEV)


@dataclass(frozen=True, slots=True)
class VipAddress:
    """An address of a group, where it belongs."""

    address: str
    prefix: int
    interface: str
    label: str = ""

    @classmethod
    def parse(cls, text: str, interface: str, label: str = "") -> VipAddress:
        """Return an address written with its prefix length: "192.168.1.110/32"."""
        address, _, prefix = text.partition("/")
        return cls(str(ip_address(address)), int(prefix), interface, label)

    @property
    def family(self) -> Family:
        """Its family."""
        return Family.of(self.address)


@dataclass(frozen=True, slots=True)
class Present:
    """How an address is up."""

    prefix: int
    like_ours: bool
    """Deprecated, as we put addresses up and systems do not."""
    permanent: bool


class Addresses:
    """Puts addresses up and takes them down."""

    def __init__(self) -> None:
        self._netlink = NetlinkSocket(NETLINK_ROUTE)

    def close(self) -> None:
        """Close the socket; the addresses stay."""
        self._netlink.close()

    def add(self, addresses: Sequence[VipAddress], lifetime_ns: int) -> list[str]:
        """Put addresses up, or renew their lifetime (0: for ever); return what the kernel refused, a sentence each."""
        requests, known, problems = self._requests(addresses, lifetime_ns)
        for refusal in self._netlink.send_all(requests):
            one = known[refusal.index]
            problems.append(f"{one.address} cannot be put on {one.interface}: {refusal.text}")
        return problems

    def remove(self, addresses: Sequence[VipAddress]) -> list[str]:
        """Take addresses down where they are up; return what the kernel refused."""
        requests, known, _ = self._requests(addresses, None)
        return [
            f"{known[each.index].address} cannot be taken off {known[each.index].interface}: {each.text}"
            for each in self._netlink.send_all(requests)
            if each.errno not in GONE
        ]

    def remove_everywhere(self, addresses: Collection[str]) -> list[str]:
        """Take addresses off whatever interfaces have them; return what the kernel refused.

        What the system put on the loopback interface stays: a director that is a real server too has its VIPs there.
        """
        if not addresses:
            return []
        found = []
        for reply in self._netlink.dump(Request(RTM_GETADDR, IFADDRMSG.pack(0, 0, 0, 0, 0))):
            address, index = parse_address(reply.body)
            if reply.type == RTM_NEWADDR and address in addresses:
                _, prefix, flags, _, _ = IFADDRMSG.unpack_from(reply.body)
                if index == LOOPBACK_INDEX and not flags & IFA_F_DEPRECATED:
                    continue
                found.append((VipAddress(address, prefix, ""), index))
        refusals = self._netlink.send_all([removal(one, index) for one, index in found])
        return [
            f"{found[each.index][0].address} cannot be taken off interface {found[each.index][1]}: {each.text}"
            for each in refusals
            if each.errno not in GONE
        ]

    def present(self, addresses: Collection[VipAddress]) -> Set[VipAddress]:
        """Return those that are up now."""
        return self.look(addresses).keys()

    def look(self, addresses: Collection[VipAddress]) -> dict[VipAddress, Present]:
        """Return those that are up now, whatever their prefix lengths, and how."""
        wanted = {(one.address, _index(one.interface)): one for one in addresses}
        found = {}
        for reply in self._netlink.dump(Request(RTM_GETADDR, IFADDRMSG.pack(0, 0, 0, 0, 0))):
            one = wanted.get(parse_address(reply.body)) if reply.type == RTM_NEWADDR else None
            if one is None:
                continue
            _, prefix, flags, _, _ = IFADDRMSG.unpack_from(reply.body)
            if one not in found or prefix == one.prefix:  # an IPv4 address can be up with several prefix lengths
                found[one] = Present(prefix, bool(flags & IFA_F_DEPRECATED), bool(flags & IFA_F_PERMANENT))
        return found

    def _requests(
        self, addresses: Sequence[VipAddress], lifetime_ns: int | None
    ) -> tuple[list[Request], list[VipAddress], list[str]]:
        requests, known, problems = [], [], []
        for one in addresses:
            index = _index(one.interface)
            if index == 0:
                problems.append(f"{one.address} cannot be put on {one.interface}: there is no such interface")
                continue
            known.append(one)
            requests.append(removal(one, index) if lifetime_ns is None else addition(one, index, lifetime_ns))
        return requests, known, problems


def parse_address(body: bytes) -> tuple[str, int]:
    """Return address and index of the interface of an RTM_NEWADDR or RTM_DELADDR."""
    family, _, _, _, index = IFADDRMSG.unpack_from(body)
    attributes = parse_attributes(body, IFADDRMSG.size)
    packed = attributes.get(IFA_LOCAL, attributes.get(IFA_ADDRESS, b""))
    if family not in (Family.IPV4, Family.IPV6) or len(packed) not in (4, 16):
        return "", index
    return str(ip_address(packed)), index


def addition(one: VipAddress, index: int, lifetime_ns: int) -> Request:
    """Return what puts an address up on an interface, or renews its lifetime."""
    valid_s = -(-lifetime_ns // NS_PER_S) if lifetime_ns else FOREVER
    packed = ip_address(one.address).packed
    parts = [
        IFADDRMSG.pack(one.family, one.prefix, 0, 0, index),
        attribute(IFA_LOCAL, packed),
        attribute(IFA_ADDRESS, packed),
        attribute(IFA_CACHEINFO, CACHEINFO.pack(0, valid_s, 0, 0)),
    ]
    if one.family is Family.IPV6:
        parts.append(attribute_u32(IFA_FLAGS, IFA_F_NODAD))
    elif one.label:
        parts.append(attribute_string(IFA_LABEL, one.label))
    return Request(RTM_NEWADDR, b"".join(parts), NLM_F_CREATE | NLM_F_REPLACE)


def removal(one: VipAddress, index: int) -> Request:
    """Return what takes an address off an interface."""
    packed = ip_address(one.address).packed
    head = IFADDRMSG.pack(one.family, one.prefix, 0, 0, index)
    return Request(RTM_DELADDR, head + attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed))


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0


def missing_interfaces(addresses: Iterable[VipAddress]) -> list[str]:
    """Return the interfaces that are not there."""
    return sorted({one.interface for one in addresses if _index(one.interface) == 0})
