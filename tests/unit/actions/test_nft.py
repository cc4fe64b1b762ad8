"""What is sent is read back by the kernel and by the nft program: see test_gate. Here: the bytes of one request."""

from __future__ import annotations

from hawatch.actions import nft
from hawatch.actions.netlink_codec import parse_attributes, to_text
from hawatch.actions.nft import Element, Nfproto, Table

TABLE = Table(Nfproto.INET, "hawatch")


def test_elements_carry_keys_and_timeouts_in_milliseconds_big_endian() -> None:
    request = nft.add_elements(TABLE, "armed0_web", [Element(b"\x02", timeout_ns=1_500_000_000)])
    assert request.type == nft.SUBSYSTEM << 8 | nft.Message.NEW_ELEMENT
    assert request.body[0] == Nfproto.INET
    attributes = parse_attributes(request.body, 4)
    assert to_text(attributes[1]) == "hawatch"
    assert to_text(attributes[2]) == "armed0_web"
    assert (1500).to_bytes(8, "big") in request.body


def test_a_table_is_asked_for_by_name() -> None:
    request = nft.get_table(TABLE)
    assert request.type == nft.SUBSYSTEM << 8 | nft.Message.GET_TABLE
    assert to_text(parse_attributes(request.body, 4)[1]) == "hawatch"
