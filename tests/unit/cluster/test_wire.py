"""Datagrams: what is encoded is decoded; whatever else arrives is a rejection, never an exception."""

from __future__ import annotations

import hmac
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hawatch.cluster.keys import KeyRing, activated, added, removed
from hawatch.cluster.wire import (
    BODY_BYTES_MAX,
    BY_ADMIN,
    DATAGRAM_BYTES_MAX,
    FORMATS,
    HEADER,
    HEARTBEAT_FLAGS,
    LATELY_MAX,
    MAGIC,
    NUMBER_MAX,
    PAUSED,
    READY,
    SEEN,
    TAG_BYTES,
    UNABLE,
    UNSURE,
    VERSION,
    Claim,
    Codec,
    Datagram,
    Deny,
    DenyReason,
    Grant,
    GroupState,
    Handover,
    Heartbeat,
    Ping,
    Pong,
    Rejection,
    Release,
    Request,
    decode_messages,
    encode_messages,
    identifier,
)

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
RING = KeyRing({1: KEY}, 1)
ME, YOU, STRANGER = identifier("a"), identifier("b"), identifier("stranger")
CODEC = Codec("site", [ME, YOU], RING)

WORD = st.integers(0, (1 << 64) - 1)
NUMBER = st.integers(0, NUMBER_MAX)
MESSAGES = st.one_of(
    st.builds(Heartbeat, NUMBER, st.integers(0, 65535), st.integers(0, HEARTBEAT_FLAGS)),
    st.builds(
        Claim, WORD, st.sampled_from([int(state) for state in GroupState]), NUMBER, st.integers(0, (1 << 32) - 1)
    ),
    st.builds(Ping, WORD),
    st.builds(Pong, WORD, NUMBER),
    st.builds(Request, WORD, NUMBER, WORD, st.integers(1, NUMBER_MAX), NUMBER),
    st.builds(Grant, WORD, WORD, NUMBER),
    st.builds(Deny, WORD, WORD, st.sampled_from([int(reason) for reason in DenyReason]), WORD, NUMBER, NUMBER),
    st.builds(Release, WORD, NUMBER, WORD, st.integers(0, BY_ADMIN)),
    st.builds(Handover, WORD, WORD),
)
GOOD = CODEC.encode(ME, 7, 9, encode_messages([Heartbeat(1, 2, 3), Request(4, 5, 6, 7, 8), Pong(9, 10)])[0])


def tagged(signed: bytes, key: bytes = KEY) -> bytes:
    return signed + hmac.digest(key, signed, "sha256")[:TAG_BYTES]


@given(st.lists(MESSAGES, min_size=1, max_size=80), NUMBER, st.integers(1, NUMBER_MAX))
def test_every_message_comes_back_in_order(messages, boot, sequence):
    received = []
    for body in encode_messages(messages):
        data = CODEC.encode(YOU, boot, sequence, body)
        assert len(data) <= DATAGRAM_BYTES_MAX
        datagram = CODEC.decode(data)
        assert isinstance(datagram, Datagram)
        assert datagram[:3] == (YOU, boot, sequence)
        received += datagram.messages
    assert received == messages
    assert [type(message) for message in received] == [type(message) for message in messages]


@given(st.lists(MESSAGES, min_size=2, max_size=80))
def test_no_more_datagrams_than_needed(messages):
    bodies = encode_messages(messages)
    assert all(len(one) + len(two) > BODY_BYTES_MAX - 64 for one, two in itertools.pairwise(bodies))


@pytest.mark.parametrize(
    ("message", "data"),
    [
        (Heartbeat(0x0102030405060708, 0x1122, 0x1F), "01 0102030405060708 1122 1f"),
        (Claim(0xFFEEDDCCBBAA9988, 5, 0x0102, 0x0A0B0C0D), "02 ffeeddccbbaa9988 05 0000000000000102 0a0b0c0d"),
        (Ping(0xFFEEDDCCBBAA9988), "03 ffeeddccbbaa9988"),
        (Pong(0xFFEEDDCCBBAA9988, 2), "04 ffeeddccbbaa9988 0000000000000002"),
        (Request(1, 2, 3, 4, 5), "05 0000000000000001 0000000000000002 0000000000000003 0000000000000004 0000000000000005"),
        (Grant(1, 2, 3), "06 0000000000000001 0000000000000002 0000000000000003"),
        (Deny(1, 2, 5, 3, 4, 6), "07 0000000000000001 0000000000000002 05 0000000000000003 0000000000000004 0000000000000006"),
        (Release(1, 2, 3, 1), "08 0000000000000001 0000000000000002 0000000000000003 01"),
        (Handover(1, 2), "09 0000000000000001 0000000000000002"),
    ],
)  # fmt: skip
def test_messages_are_the_bytes_of_the_documentation(message, data):
    """Directors of different releases understand each other: what is sent changes with the version only."""
    assert encode_messages([message]) == [bytes.fromhex(data)]
    assert decode_messages(bytes.fromhex(data)) == [message]


def test_a_datagram_is_the_bytes_of_the_documentation():
    signed = bytes.fromhex(
        "6877 03 01 fbae041b02c41ed0 ca978112ca1bbdca 0000000000000007 0000000000000009 00000000000000ff 03 000000000000000b"
    )
    codec = Codec("site", [ME], RING, 0xFF)
    data = codec.encode(ME, 7, 9, encode_messages([Ping(11)])[0])
    assert data == signed + hmac.digest(KEY, signed, "sha256")[:16]
    assert codec.decode(data) == Datagram(ME, 7, 9, [Ping(11)], 0xFF)


def test_numbers_on_the_wire_are_those_of_the_documentation():
    assert [(state.name, int(state)) for state in GroupState] == [
        ("STANDBY", 0), ("CANDIDATE", 1), ("OWNER", 2), ("CLOSING", 3), ("RELEASED", 4), ("CONFLICT", 5),
    ]  # fmt: skip
    assert [(reason.name, int(reason)) for reason in DenyReason] == [
        ("HELD", 1), ("SILENT", 2), ("TOO_LONG", 3), ("MEMBERS", 4), ("UNKNOWN", 5),
    ]  # fmt: skip
    assert (READY, PAUSED, UNABLE, SEEN, UNSURE, HEARTBEAT_FLAGS) == (1, 2, 4, 8, 16, 31)
    assert BY_ADMIN == 1
    assert NUMBER_MAX == 2**62 - 1


def test_datagrams_are_filled_to_the_last_byte():
    beats = [Heartbeat(number, 0, 0) for number in range(2 * 95 + 1)]
    bodies = encode_messages(beats)
    assert [len(body) for body in bodies] == [95 * 12, 95 * 12, 12]
    datagrams = [CODEC.encode(ME, 1, 1, body) for body in bodies]
    assert [len(data) for data in datagrams] == [1200, 1200, 72]
    assert [message for data in datagrams for message in CODEC.decode(data).messages] == beats
    assert [len(body) for body in encode_messages([*beats[:93], Grant(1, 2, 3)])] == [93 * 12, 25], "one byte too many"
    assert encode_messages([]) == []


def test_every_message_type_is_tried():
    tried = {Heartbeat, Claim, Ping, Pong, Request, Grant, Deny, Release, Handover}
    assert tried == {make for _, make in FORMATS.values()}


@given(st.data())
def test_a_changed_bit_is_noticed(data):
    position = data.draw(st.integers(0, len(GOOD) * 8 - 1))
    mutated = bytearray(GOOD)
    mutated[position // 8] ^= 1 << position % 8
    assert isinstance(CODEC.decode(bytes(mutated)), Rejection)


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_a_cut_datagram_is_noticed(length):
    assert isinstance(CODEC.decode(GOOD[:length]), Rejection)


@given(st.binary(max_size=DATAGRAM_BYTES_MAX + 5))
def test_noise_is_rejected(data):
    assert isinstance(CODEC.decode(data), Rejection)


@settings(max_examples=300)
@given(st.binary(min_size=1, max_size=200))
def test_a_body_of_noise_with_a_right_tag_never_raises(body):
    head = HEADER.pack(MAGIC, VERSION, 1, CODEC.cluster, ME, 1, 1, 0)
    datagram = CODEC.decode(tagged(head + body))
    if isinstance(datagram, Datagram):
        assert b"".join(encode_messages(datagram.messages)) == body
    else:
        assert datagram is Rejection.MALFORMED


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", Rejection.TOO_SHORT),
        (GOOD[: 44 + 16], Rejection.TOO_SHORT),
        (GOOD[: 44 + 16 + 1], Rejection.TAG),
        (GOOD + bytes(1201 - len(GOOD)), Rejection.TOO_LONG),
        (GOOD + bytes(1200 - len(GOOD)), Rejection.TAG),
        (b"xx" + GOOD[2:], Rejection.MAGIC),
        (GOOD[:2] + b"\x01" + GOOD[3:], Rejection.VERSION),
        (GOOD[:3] + b"\x02" + GOOD[4:], Rejection.KEY),
        (GOOD[:4] + bytes(8) + GOOD[12:], Rejection.CLUSTER),
        (GOOD[:12] + STRANGER.to_bytes(8, "big") + GOOD[20:], Rejection.SENDER),
        (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), Rejection.TAG),
        (tagged(GOOD[:-TAG_BYTES], OTHER_KEY), Rejection.TAG),
        (tagged(HEADER.pack(MAGIC, VERSION, 1, CODEC.cluster, ME, NUMBER_MAX + 1, 1, 0) + b"\x03" + bytes(8)), Rejection.MALFORMED),
        (tagged(HEADER.pack(MAGIC, VERSION, 1, CODEC.cluster, ME, 1, 0, 0) + b"\x03" + bytes(8)), Rejection.MALFORMED),
        (tagged(HEADER.pack(MAGIC, VERSION, 1, CODEC.cluster, ME, 1, NUMBER_MAX + 1, 0) + b"\x03" + bytes(8)), Rejection.MALFORMED),
    ],
)  # fmt: skip
def test_every_cause_has_its_name(data, cause):
    assert CODEC.decode(data) is cause


@pytest.mark.parametrize(
    "message",
    [
        Heartbeat(NUMBER_MAX + 1, 0, 0),
        Heartbeat(0, 0, HEARTBEAT_FLAGS + 1),
        Claim(1, GroupState.CONFLICT + 1, 0),
        Claim(1, 0, NUMBER_MAX + 1),
        Request(1, NUMBER_MAX + 1, 1, 1, 1),
        Request(1, 1, 1, 0, 1),
        Request(1, 1, 1, 1, NUMBER_MAX + 1),
        Request(1, 1, 1, NUMBER_MAX + 1, 1),
        Grant(1, 1, NUMBER_MAX + 1),
        Deny(1, 1, 0, 1, 1, 1),
        Deny(1, 1, 6, 1, 1, 1),
        Deny(1, 1, 1, 1, NUMBER_MAX + 1, 1),
        Deny(1, 1, 1, 1, 1, NUMBER_MAX + 1),
        Release(1, 1, 1, 2),
        Release(1, NUMBER_MAX + 1, 1, 0),
        Pong(1, NUMBER_MAX + 1),
    ],
)
def test_values_that_no_node_sends_are_refused(message):
    assert decode_messages(encode_messages([message])[0]) is None
    assert decode_messages(encode_messages([Ping(1), message])[0]) is None


@pytest.mark.parametrize(
    "message",
    [
        Heartbeat(NUMBER_MAX, 65535, HEARTBEAT_FLAGS),
        Claim(2**64 - 1, GroupState.CONFLICT, NUMBER_MAX),
        Ping(2**64 - 1),
        Pong(2**64 - 1, NUMBER_MAX),
        Request(2**64 - 1, NUMBER_MAX, 2**64 - 1, NUMBER_MAX, NUMBER_MAX),
        Grant(2**64 - 1, 2**64 - 1, NUMBER_MAX),
        Deny(2**64 - 1, 2**64 - 1, DenyReason.UNKNOWN, 2**64 - 1, NUMBER_MAX, NUMBER_MAX),
        Release(2**64 - 1, NUMBER_MAX, 2**64 - 1, BY_ADMIN),
        Handover(2**64 - 1, 2**64 - 1),
    ],
)
def test_the_largest_values_are_taken(message):
    (body,) = encode_messages([message])
    datagram = CODEC.decode(CODEC.encode(ME, NUMBER_MAX, NUMBER_MAX, body))
    assert datagram == Datagram(ME, NUMBER_MAX, NUMBER_MAX, [message])


def test_an_unknown_type_and_a_cut_message_are_refused():
    assert decode_messages(b"\xff" + bytes(8)) is None
    assert decode_messages(b"\x00" + bytes(8)) is None
    assert decode_messages(b"\x0a" + bytes(8)) is None
    assert decode_messages(b"\x03" + bytes(7)) is None
    assert decode_messages((b"\x03" + bytes(8)) * 2 + b"\x03" + bytes(7)) is None
    assert decode_messages(b"") == []


def test_keys_change_without_a_pause():
    """Each node takes each step at another time; at no time does one reject the other."""
    rings = [RING]
    ring, number = added(RING, OTHER_KEY)
    rings += [ring, activated(ring, number), removed(activated(ring, number), 1)]
    for one, other in itertools.pairwise(rings):
        for sends, hears in ((one, other), (other, one)):
            sender, hearer = Codec("site", [YOU], sends), Codec("site", [ME], hears)
            assert isinstance(hearer.decode(sender.encode(ME, 1, 1, b"\x03" + bytes(8))), Datagram)
    codec = Codec("site", [ME], rings[0])
    assert isinstance(codec.decode(GOOD), Datagram)
    codec.use(rings[3])
    assert codec.decode(GOOD) is Rejection.KEY
    assert codec.decode(codec.encode(ME, 1, 1, b"\x03" + bytes(8))) == Datagram(ME, 1, 1, [Ping(0)])


def test_copies_by_another_link_are_the_same_and_what_is_remembered_of_them_is_bounded():
    sender, hearer = Codec("site", [YOU], RING), Codec("site", [ME], RING)
    datagrams = [sender.encode(ME, 1, sequence, b"\x03" + bytes(8)) for sequence in range(1, LATELY_MAX + 10)]
    found = [hearer.decode(each) for each in datagrams]
    assert len(hearer._lately) == LATELY_MAX
    assert [hearer.decode(each) for each in datagrams] == found
    assert hearer.decode(datagrams[-1]) is hearer.decode(datagrams[-1])
    assert hearer.decode(datagrams[-1][:-1] + b"?") is Rejection.TAG


def test_identifiers_are_fixed_for_ever():
    assert identifier("a") == 0xCA978112CA1BBDCA
    assert len({identifier(f"node{n}") for n in range(1000)}) == 1000
    with pytest.raises(AssertionError):
        identifier("")
