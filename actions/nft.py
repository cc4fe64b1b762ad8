"""nftables' bytes: tables, sets, chains, rules, set elements as netlink requests, and the parsing of answers. No I/O.

Numbers are from Linux's UAPI headers ``linux/netfilter/nf_tables.h`` (NFT_, NFTA_), ``linux/netfilter.h`` (NFPROTO_).
Every number in nftables' attributes is big endian.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from hawatch.actions.netlink_codec import (
    NETFILTER,
    NLM_F_APPEND,
    NLM_F_CREATE,
    Reply,
    Request,
    attribute,
    attribute_be32,
    attribute_be64,
    attribute_string,
    nested,
    netfilter,
    parse_attribute_list,
    parse_attributes,
    to_text,
)
from hawatch.errors import KernelError

SUBSYSTEM = 10
"""NFNL_SUBSYS_NFTABLES"""
NOTIFY_GROUP = 7
"""NFNLGRP_NFTABLES: changes of any table, told to those who listen."""

TABLE_OWNER = 0x2
TABLE_PERSIST = 0x4

SET_MAP = 0x8
SET_TIMEOUT = 0x10

VERDICT_DROP = 0
VERDICT_ACCEPT = 1
VERDICT_JUMP = -3
VERDICT_BYTES = 16
REGISTER_VERDICT = 0
REGISTER_1 = 1

BASE_LINK = 0
BASE_NETWORK = 1
BASE_TRANSPORT = 2

META_PROTOCOL = 1
META_NFPROTO = 15
META_L4PROTO = 16

TIMEOUT_UNIT_NS = 1_000_000
"""Set elements' timeouts are in milliseconds."""
COMMENT_BYTES = 120


class Nfproto(IntEnum):
    """Families of nftables' tables."""

    INET = 1
    IPV4 = 2
    ARP = 3
    BRIDGE = 7
    IPV6 = 10


class Message(IntEnum):
    """Messages of nftables that are used here."""

    NEW_TABLE = 0
    GET_TABLE = 1
    DELETE_TABLE = 2
    NEW_CHAIN = 3
    DELETE_CHAIN = 5
    NEW_RULE = 6
    GET_RULE = 7
    DELETE_RULE = 8
    NEW_SET = 9
    GET_SET = 10
    DELETE_SET = 11
    NEW_ELEMENT = 12
    GET_ELEMENT = 13
    DELETE_ELEMENT = 14
    NEW_GENERATION = 15


class DataType(IntEnum):
    """What the `nft` program is to print keys and values as; the kernel does not care."""

    NFPROTO = 2
    IPV4 = 7
    IPV6 = 8
    ETHER = 9
    VERDICT = 0xFFFFFF00


@dataclass(frozen=True, slots=True)
class Table:
    """A table's name within its family."""

    family: Nfproto
    name: str


@dataclass(frozen=True, slots=True)
class SetSpec:
    """A set, or a map of keys to chains where `verdicts` is true."""

    name: str
    key: DataType
    key_bytes: int
    verdicts: bool = False
    timeout: bool = False


@dataclass(frozen=True, slots=True)
class ChainSpec:
    """A chain; a base chain where `hook` is given."""

    name: str
    hook: int | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Element:
    """An element of a set or map. `timeout_ns` 0: it stays. `expires_ns`: what is left, in answers only."""

    key: bytes
    jump: str = ""
    """The chain to jump to, in a map."""
    timeout_ns: int = 0
    expires_ns: int = 0


# --- Expressions: what a rule is made of ------------------------------------------------------------------


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, attribute_string(1, name), nested(2, *attributes))


def meta(key: int) -> bytes:
    """Load something about the packet."""
    return _expression("meta", attribute_be32(1, REGISTER_1), attribute_be32(2, key))


def payload(base: int, offset: int, length: int) -> bytes:
    """Load bytes of the packet."""
    return _expression(
        "payload",
        attribute_be32(1, REGISTER_1),
        attribute_be32(2, base),
        attribute_be32(3, offset),
        attribute_be32(4, length),
    )


def equals(value: bytes) -> bytes:
    """Go on only if what was loaded is `value`."""
    return _expression("cmp", attribute_be32(1, REGISTER_1), attribute_be32(2, 0), nested(3, attribute(1, value)))


def lookup(set_name: str) -> bytes:
    """Go on only if what was loaded is in the set."""
    return _expression("lookup", attribute_string(1, set_name), attribute_be32(2, REGISTER_1))


def jump_by(map_name: str) -> bytes:
    """Jump to the chain that the map has for what was loaded; go on where it has none."""
    target = attribute_be32(3, REGISTER_VERDICT)
    return _expression("lookup", attribute_string(1, map_name), attribute_be32(2, REGISTER_1), target)


def counter() -> bytes:
    """Count the packets that come this far."""
    return _expression("counter", attribute_be64(1, 0), attribute_be64(2, 0))


def _verdict(code: int, chain: str = "") -> bytes:
    number = attribute(1, code.to_bytes(4, "big", signed=True))
    return nested(2, number, attribute_string(2, chain)) if chain else nested(2, number)


def verdict(code: int) -> bytes:
    """Accept or drop."""
    return _expression("immediate", attribute_be32(1, REGISTER_VERDICT), nested(2, _verdict(code)))


# --- Requests ---------------------------------------------------------------------------------------------


def _request(message: Message, table: Table, *attributes: bytes, flags: int = 0) -> Request:
    return netfilter(SUBSYSTEM, message, table.family, attribute_string(1, table.name), *attributes, flags=flags)


def new_table(table: Table, flags: int = 0) -> Request:
    """Make a table; one that is there already stays as it is."""
    return _request(Message.NEW_TABLE, table, attribute_be32(2, flags), flags=NLM_F_CREATE)


def get_table(table: Table) -> Request:
    """Ask for a table."""
    return _request(Message.GET_TABLE, table)


def delete_table(table: Table) -> Request:
    """Delete a table and all that is in it."""
    return _request(Message.DELETE_TABLE, table)


def new_set(table: Table, spec: SetSpec, number: int) -> Request:
    """Make a set; `number` tells the sets of one transaction apart."""
    flags = (SET_TIMEOUT if spec.timeout else 0) | (SET_MAP if spec.verdicts else 0)
    data = (attribute_be32(6, DataType.VERDICT), attribute_be32(7, VERDICT_BYTES)) if spec.verdicts else ()
    return _request(
        Message.NEW_SET,
        table,
        attribute_string(2, spec.name),
        attribute_be32(3, flags),
        attribute_be32(4, spec.key),
        attribute_be32(5, spec.key_bytes),
        *data,
        attribute_be32(10, number),
        flags=NLM_F_CREATE,
    )


def new_chain(table: Table, spec: ChainSpec) -> Request:
    """Make a chain; a base chain lets pass what no rule drops."""
    hook: tuple[bytes, ...] = ()
    if spec.hook is not None:
        priority = attribute(2, spec.priority.to_bytes(4, "big", signed=True))
        hook = (
            nested(4, attribute_be32(1, spec.hook), priority),
            attribute_be32(5, VERDICT_ACCEPT),
            attribute_string(7, "filter"),
        )
    return _request(Message.NEW_CHAIN, table, attribute_string(3, spec.name), *hook, flags=NLM_F_CREATE)


def new_rule(table: Table, chain: str, expressions: Sequence[bytes], comment: str = "") -> Request:
    """Append a rule to a chain."""
    text = comment.encode()[:COMMENT_BYTES] + b"\0"
    note = (attribute(7, bytes((0, len(text))) + text),) if comment else ()
    return _request(
        Message.NEW_RULE,
        table,
        attribute_string(2, chain),
        nested(4, *expressions),
        *note,
        flags=NLM_F_CREATE | NLM_F_APPEND,
    )


def delete_rules(table: Table) -> Request:
    """Delete all rules of a table; its sets and chains stay."""
    return _request(Message.DELETE_RULE, table)


def get_rules(table: Table) -> Request:
    """Ask for the rules of a table (a dump)."""
    return _request(Message.GET_RULE, table)


def _element(element: Element) -> bytes:
    data = (nested(2, _verdict(VERDICT_JUMP, element.jump)),) if element.jump else ()
    # Rounded down: the kernel must never let an element live longer than it was given.
    timeout = (attribute_be64(4, element.timeout_ns // TIMEOUT_UNIT_NS),) if element.timeout_ns else ()
    return nested(1, nested(1, attribute(1, element.key)), *data, *timeout)


def _elements(message: Message, table: Table, set_name: str, elements: Iterable[Element], flags: int) -> Request:
    listed = nested(3, *(_element(element) for element in elements))
    return _request(message, table, attribute_string(2, set_name), listed, flags=flags)


def add_elements(table: Table, set_name: str, elements: Iterable[Element]) -> Request:
    """Add elements; one that is there already stays as it is, its timer too."""
    return _elements(Message.NEW_ELEMENT, table, set_name, elements, NLM_F_CREATE)


def delete_elements(table: Table, set_name: str, elements: Iterable[Element]) -> Request:
    """Delete elements; one that is not there fails the whole transaction."""
    return _elements(Message.DELETE_ELEMENT, table, set_name, elements, 0)


def delete_set(table: Table, name: str) -> Request:
    """Delete a set."""
    return _request(Message.DELETE_SET, table, attribute_string(2, name))


def delete_chain(table: Table, name: str) -> Request:
    """Delete a chain."""
    return _request(Message.DELETE_CHAIN, table, attribute_string(3, name))


def get_sets(table: Table) -> Request:
    """Ask for the sets of a table (a dump)."""
    return _request(Message.GET_SET, table)


def get_elements(table: Table, set_name: str) -> Request:
    """Ask for the elements of a set (a dump)."""
    return _request(Message.GET_ELEMENT, table, attribute_string(2, set_name))


# --- Answers ----------------------------------------------------------------------------------------------


def message_kind(kind: int) -> Message | None:
    """Return which of nftables' messages a netlink message type is, None for any other."""
    if kind >> 8 != SUBSYSTEM:
        return None
    try:
        return Message(kind & 0xFF)
    except ValueError:
        return None


def table_name(kind: Message, body: bytes) -> Table | None:
    """Return the table that a notification is about, None where it is about none of ours."""
    if kind is Message.NEW_GENERATION or len(body) < NETFILTER.size:
        return None
    name = parse_attributes(body, NETFILTER.size).get(1)
    try:
        return None if name is None else Table(Nfproto(body[0]), to_text(name))
    except ValueError:
        return None


def table_flags(reply: Reply) -> int:
    """Return a table's flags."""
    return _number(parse_attributes(reply.body, NETFILTER.size).get(2, b""))


def parse_elements(replies: Iterable[Reply]) -> list[Element]:
    """Return the elements in the answers to `get_elements`."""
    found: list[Element] = []
    for reply in replies:
        listed = parse_attributes(reply.body, NETFILTER.size).get(3, b"")
        for _, one in parse_attribute_list(listed):
            fields = parse_attributes(one)
            key = parse_attributes(fields.get(1, b"")).get(1, b"")
            jump = to_text(parse_attributes(parse_attributes(fields.get(2, b"")).get(2, b"")).get(2, b""))
            timeout_ns = _number(fields.get(4, b"")) * TIMEOUT_UNIT_NS
            expires_ns = _number(fields.get(5, b"")) * TIMEOUT_UNIT_NS
            if not key:
                raise KernelError("nftables: an element without a key")
            found.append(Element(key, jump, timeout_ns, expires_ns))
    return found


def parse_set_names(replies: Iterable[Reply]) -> list[str]:
    """Return the names in the answers to `get_sets`."""
    return [to_text(parse_attributes(reply.body, NETFILTER.size).get(2, b"")) for reply in replies]


def parse_rule_chains(replies: Iterable[Reply]) -> list[str]:
    """Return the chain of each rule in the answers to `get_rules`, in order."""
    return [to_text(parse_attributes(reply.body, NETFILTER.size).get(2, b"")) for reply in replies]


def _number(value: bytes) -> int:
    return int.from_bytes(value, "big")
