"""Attributes and messages, there and back."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.actions.netlink_codec import (
    NLM_F_ACK_TLVS,
    NLMSG_DONE,
    NLMSG_ERROR,
    Reply,
    Request,
    attribute,
    attribute_be32,
    attribute_be64,
    attribute_string,
    attribute_u8,
    attribute_u16,
    attribute_u32,
    decode,
    decode_error,
    encode,
    nested,
    parse_attribute_list,
    parse_attributes,
    to_int,
    to_text,
)
from hawatch.errors import KernelError


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=40)), max_size=8))
def test_attributes_there_and_back(pairs):
    data = b"".join(attribute(kind, payload) for kind, payload in pairs)
    assert len(data) % 4 == 0
    assert parse_attribute_list(data) == pairs


@given(st.lists(st.tuples(st.integers(16, 0xFFFF), st.binary(max_size=40)), max_size=8))
def test_messages_there_and_back(pairs):
    data = b"".join(encode(Request(kind, body), 7) for kind, body in pairs)
    assert [(one.type, one.body) for one in decode(data)] == pairs


@given(st.binary(max_size=80))
def test_whatever_comes_is_parsed_or_refused(data):
    for parse in (decode, parse_attribute_list):
        try:
            parse(data)
        except KernelError:
            continue


def test_numbers_and_their_byte_orders():
    fields = parse_attributes(
        attribute_u8(1, 200)
        + attribute_u16(2, 60000)
        + attribute_u32(3, 1 << 31)
        + attribute(4, struct.pack("=Q", 1 << 60))
    )
    assert [to_int(fields[kind]) for kind in (1, 2, 3, 4)] == [200, 60000, 1 << 31, 1 << 60]
    network = parse_attributes(attribute_be32(1, 0x01020304) + attribute_be64(2, 5))
    assert network == {1: b"\1\2\3\4", 2: b"\0\0\0\0\0\0\0\5"}


def test_nested_and_text():
    fields = parse_attributes(nested(3, attribute_string(1, "wlc")))
    assert to_text(parse_attributes(fields[3])[1]) == "wlc"


@pytest.mark.parametrize(("kind", "head"), [(NLMSG_ERROR, 4 + 16), (NLMSG_DONE, 4)])
def test_the_kernels_own_words_are_told(kind, head):
    body = struct.pack("=i", -22).ljust(head, b"\0") + attribute_string(1, "no such thing")
    assert decode_error(Reply(kind, NLM_F_ACK_TLVS, 1, body)) == (22, "no such thing")
    assert decode_error(Reply(kind, 0, 1, body)) == (22, "Invalid argument")
    assert decode_error(Reply(kind, 0, 1, b"\0\0\0\0")) == (0, "")
