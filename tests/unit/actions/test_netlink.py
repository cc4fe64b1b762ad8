"""The netlink socket against the kernel's own families that every kernel has: routes, the family list, nftables."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from hawatch.actions import netlink as shell
from hawatch.actions.netlink import (
    NETLINK_GENERIC,
    NETLINK_NETFILTER,
    NETLINK_ROUTE,
    NetlinkSocket,
    resolve_generic_family,
)
from hawatch.actions.netlink_codec import (
    HEADER,
    NLM_F_CREATE,
    NLM_F_DUMP_INTR,
    NLM_F_MULTI,
    NLMSG_DONE,
    NLMSG_ERROR,
    Request,
    attribute_string,
    encode,
    generic,
    netfilter,
)
from hawatch.errors import KernelError

RTM_GETLINK = 18
LINKS = Request(RTM_GETLINK, struct.pack("=BxHiII", 0, 0, 0, 0, 0))
GET_FAMILY = generic(16, 3, 1, attribute_string(2, "nlctrl"))
NO_FAMILY = generic(16, 3, 1, attribute_string(2, "hawatch-none"))


@pytest.fixture
def families() -> Iterator[NetlinkSocket]:
    with NetlinkSocket(NETLINK_GENERIC, timeout_s=5) as opened:
        yield opened


def scripted(*packets: bytes) -> tuple[NetlinkSocket, socket.socket]:
    """Return a netlink socket whose kernel is a script: packets that wait to be received."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(0.2)
    netlink = NetlinkSocket(NETLINK_ROUTE)
    netlink._socket.close()
    netlink._socket = ours
    netlink._sequence = 0
    for packet in packets:
        theirs.send(packet)
    return netlink, theirs


def message(kind: int, sequence: int, flags: int = 0, body: bytes = b"\0\0\0\0") -> bytes:
    return HEADER.pack(16 + len(body), kind, flags, sequence, 0) + body


def test_a_family_is_found_and_a_missing_one_is_enoent(families):
    assert resolve_generic_family(families, "nlctrl") == 16
    with pytest.raises(KernelError) as caught:
        resolve_generic_family(families, "hawatch-none")
    assert caught.value.errno == errno.ENOENT


def test_refusals_carry_the_position_and_the_others_are_done(families):
    refusals = families.send_all([GET_FAMILY, NO_FAMILY, GET_FAMILY, NO_FAMILY])
    assert [(one.index, one.errno) for one in refusals] == [(1, errno.ENOENT), (3, errno.ENOENT)]
    assert families.sends == 1


def test_many_requests_go_in_few_packets_and_none_is_lost(families, monkeypatch):
    monkeypatch.setattr(shell, "BATCH_BYTES", 4096)
    refusals = families.send_all([NO_FAMILY] * 1000)
    assert [one.index for one in refusals] == list(range(1000))
    assert families.sends == -(-1000 // (4096 // len(encode(NO_FAMILY, 1))))


def test_nothing_to_send_sends_nothing(families):
    assert families.send_all([]) == ()
    assert (families.sends, families.requests) == (0, 0)


def test_a_dump_is_read_to_its_end():
    with NetlinkSocket(NETLINK_ROUTE) as routes:
        assert any(b"lo\0" in reply.body for reply in routes.dump(LINKS))


def test_a_dump_that_was_interrupted_is_read_again():
    broken = message(RTM_GETLINK, 1, NLM_F_MULTI | NLM_F_DUMP_INTR) + message(NLMSG_DONE, 1)
    whole = message(RTM_GETLINK, 2, NLM_F_MULTI, b"good") + message(NLMSG_DONE, 2)
    netlink, theirs = scripted(broken, whole)
    with netlink, theirs:
        assert [reply.body for reply in netlink.dump(LINKS)] == [b"good"]


def test_a_table_that_never_holds_still_is_given_up():
    tries = range(1, shell.DUMP_TRIES + 1)
    netlink, theirs = scripted(*(message(NLMSG_DONE, n, NLM_F_DUMP_INTR) for n in tries))
    with netlink, theirs, pytest.raises(KernelError) as caught:
        netlink.dump(LINKS)
    assert caught.value.errno == errno.EINTR


def test_silence_ends_at_the_timeout():
    netlink, theirs = scripted()
    with netlink, theirs, pytest.raises(KernelError) as caught:
        netlink.request(LINKS)
    assert caught.value.errno == errno.ETIMEDOUT


def test_answers_to_earlier_requests_are_passed_over():
    late = message(NLMSG_ERROR, 77, body=struct.pack("=i", -errno.EPERM) + b"\0" * 16)
    netlink, theirs = scripted(late, message(NLMSG_ERROR, 1))
    with netlink, theirs:
        assert netlink.send_all([LINKS]) == ()


def test_a_message_cut_short_is_an_error():
    netlink, theirs = scripted(HEADER.pack(400, NLMSG_ERROR, 0, 1, 0))
    with netlink, theirs, pytest.raises(KernelError, match="400 bytes"):
        netlink.request(LINKS)


CLONE_NEWNET = 0x40000000
NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWTABLE, NFT_MSG_GETTABLE, NFT_MSG_DELCHAIN = 10, 0, 1, 5
NFPROTO_IPV4, NAME = 2, 1


def nftables(kind: int, table: str = "", flags: int = 0) -> Request:
    parts = (attribute_string(NAME, table),) if table else ()
    return netfilter(NFNL_SUBSYS_NFTABLES, kind, NFPROTO_IPV4, *parts, flags=flags)


def in_a_namespace(work) -> list[object]:
    """Run a function in a network namespace of its own, which ends with its thread."""
    found: list[object] = []

    def run() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    return found


@pytest.mark.netns
def test_a_transaction_takes_effect_whole_or_not_at_all():
    def work() -> tuple[object, ...]:
        with NetlinkSocket(NETLINK_NETFILTER) as sender:
            sender.send_transaction([nftables(NFT_MSG_NEWTABLE, "hawatch_a", NLM_F_CREATE)], NFNL_SUBSYS_NFTABLES)
            half = [nftables(NFT_MSG_NEWTABLE, "hawatch_b", NLM_F_CREATE), nftables(NFT_MSG_DELCHAIN, "nosuch")]
            with pytest.raises(KernelError) as caught:
                sender.send_transaction(half, NFNL_SUBSYS_NFTABLES)
            found = b"".join(reply.body for reply in sender.dump(nftables(NFT_MSG_GETTABLE)))
            return str(caught.value), b"hawatch_a\0" in found, b"hawatch_b\0" in found

    (found,) = in_a_namespace(work)
    assert not isinstance(found, BaseException), found
    assert "request 2 of 2" in found[0]
    assert found[1:] == (True, False)
