from __future__ import annotations

import errno
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hawatch.agent.link import FrameSplitter, frame, leash_pair, receive_leash, send_leash
from hawatch.agent.messages import (
    FRAME_LIMIT,
    LEASH_PACKET_LIMIT,
    AreYouThere,
    Assign,
    CheckSummary,
    IAmHere,
    Link,
    Summary,
    Verdicts,
    WorkerLost,
)
from hawatch.errors import PeerError
from hawatch.model import Check, CheckState, Verdict

CHECK = Check(
    id="c1",
    type="http",
    options={"path": "/", "status": [200], "tls": {"verify": True}},
    address="192.0.2.1",
    port=80,
    interval_ns=2_000_000_000,
    timeout_ns=1_000_000_000,
    rise=2,
    fall=3,
)
MESSAGES = [
    Assign([CHECK], [Verdict("c1", CheckState.UP)]),
    Verdicts([Verdict("c1", CheckState.DOWN, "HTTP 503, wanted 200", since_wall_ns=7)], complete=True),
    Summary([CheckSummary("c1", 3, 1, 800, "no answer in 1 s")], 0.5, 0, 2),
]


@given(st.lists(st.integers(1, 200)))
def test_messages_come_out_however_the_stream_is_cut(cuts: list[int]) -> None:
    stream = b"".join(frame(message) for message in MESSAGES)
    splitter, found, start = FrameSplitter(), [], 0
    for size in cuts:
        found += splitter.feed(stream[start : start + size])
        start += size
    found += splitter.feed(stream[start:])
    assert found == MESSAGES


@pytest.mark.parametrize(
    "data",
    [
        pytest.param((FRAME_LIMIT + 1).to_bytes(4, "big"), id="too long"),
        pytest.param(b"\0\0\0\1\xc1", id="not msgpack"),
        pytest.param(b"\0\0\0\1\x80", id="no tag"),
        pytest.param(b"\0\0\0\0", id="empty"),
    ],
)
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(PeerError):
        list(FrameSplitter().feed(data))


def test_leash_carries_messages_and_descriptors() -> None:
    ours, theirs = leash_pair()
    with ours, theirs:
        assert send_leash(ours, AreYouThere(7))
        assert receive_leash(theirs) == (AreYouThere(7), None)
        with open("/dev/null", "rb") as file:
            assert send_leash(ours, Link("prober"), file.fileno())
        message, descriptor = receive_leash(theirs) or (None, None)
        assert message == Link("prober")
        assert descriptor is not None
        assert os.get_inheritable(descriptor) is False
        os.close(descriptor)
        with pytest.raises(BlockingIOError):
            receive_leash(theirs)


def test_leash_tells_that_the_other_end_is_gone() -> None:
    ours, theirs = leash_pair()
    with theirs:
        send_leash(ours, IAmHere(1))
        ours.close()
        assert receive_leash(theirs) == (IAmHere(1), None)
        assert receive_leash(theirs) is None
        assert send_leash(theirs, IAmHere(2)) is False


def test_leash_never_waits_for_one_who_does_not_read() -> None:
    ours, theirs = leash_pair()
    with ours, theirs:
        sent = 0
        while send_leash(ours, AreYouThere(sent)):
            sent += 1
        assert sent > 1


def test_leash_refuses_what_is_no_message_and_leaks_no_descriptor() -> None:
    ours, theirs = leash_pair()
    with ours, theirs, open("/dev/null", "rb") as file:
        before = len(os.listdir("/proc/self/fd"))
        socket.send_fds(ours, [b"rubbish"], [file.fileno()] * 3)
        with pytest.raises(PeerError):
            receive_leash(theirs)
        assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(PeerError, match="does not fit"):
        send_leash(ours, WorkerLost("prober", "x" * LEASH_PACKET_LIMIT, 1, 50))


class NoRoom(socket.socket):
    """A socket of a machine that is short of something."""

    number = errno.ENOBUFS

    def sendmsg(self, *_args: object, **_options: object) -> int:
        raise OSError(self.number, "no")


@pytest.mark.parametrize(("number", "told"), [(errno.ENOBUFS, True), (errno.ETOOMANYREFS, True), (errno.EBADF, False)])
def test_a_packet_that_the_kernel_has_no_room_for_is_not_sent(number: int, told: bool) -> None:
    with NoRoom(socket.AF_UNIX, socket.SOCK_SEQPACKET) as leash:
        leash.number = number
        if told:
            assert not send_leash(leash, AreYouThere(1))
        else:
            with pytest.raises(OSError, match="no"):
                send_leash(leash, AreYouThere(1))
