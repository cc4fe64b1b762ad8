"""Echoes over loopback and over a wire; what is no answer."""

from __future__ import annotations

import os
import struct

import pytest

from hawatch.agent.runner import run_probe
from hawatch.model import NS_PER_MS, NS_PER_S, Route
from hawatch.plugin import Attempt, Target
from hawatch.probes import ping
from hawatch.probes.ping import PingOptions, PingProbe

IPV4_HEADER = b"\x45" + bytes(19)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_host_that_answers(address):
    probe = PingProbe(PingOptions(count=3, loss=1), Target(address, None))
    result = (await run_probe(probe, Attempt(1000 * NS_PER_MS))).result
    assert (result.ok, result.reason) == (True, "")


@pytest.mark.netns
async def test_a_host_that_does_not(quiet_host):
    probe = PingProbe(PingOptions(), Target(quiet_host, None))
    result = (await run_probe(probe, Attempt(300 * NS_PER_MS))).result
    assert result.reason == "no echo reply in 300 ms"


@pytest.fixture
def quiet_host():
    """An address of our own from which echo requests get no answer: one in a network that drops them."""
    name = f"hq{os.getpid() % 100000}"
    script = (
        f"ip netns add {name} && ip link add {name} type veth peer name eth0 netns {name} && "
        f"ip address add 198.18.77.1/30 dev {name} && ip link set {name} up && "
        f"ip -n {name} address add 198.18.77.2/30 dev eth0 && ip -n {name} link set eth0 up && "
        f"ip netns exec {name} sysctl -qw net.ipv4.icmp_echo_ignore_all=1"
    )
    try:
        assert os.system(script) == 0
        yield "198.18.77.2"
    finally:
        os.system(f"ip netns delete {name}; ip link delete {name} 2>/dev/null")


def test_replies_of_strangers_are_named_and_do_not_count():
    run = ping._Run("192.0.2.1", b"12345678", 1)
    pinger = ping._Pinger.__new__(ping._Pinger)
    pinger.version, pinger.identifier, pinger.runs = 4, 7, {9: run}
    reply = IPV4_HEADER + struct.pack("!BBHHH", 0, 0, 0, 7, 9)
    pinger._take(reply + b"12345678", "192.0.2.66")
    pinger._take(reply + b"otherone", "192.0.2.1")
    assert (run.missing, run.strangers) == (1, {"192.0.2.66"})
    pinger._take(reply + b"12345678", "192.0.2.1")
    assert run.missing == 0


def test_loss_must_leave_one():
    with pytest.raises(ValueError, match="less than count"):
        PingOptions(count=2, loss=2)


async def test_a_way_of_its_own():
    probe = PingProbe(PingOptions(), Target("127.0.0.1", None, route=Route(("127.0.0.9",), "lo", 7)))
    assert (await run_probe(probe, Attempt(NS_PER_S))).result.ok
    probe = PingProbe(PingOptions(), Target("127.0.0.1", None, route=Route(("192.0.2.77",))))
    result = (await run_probe(probe, Attempt(NS_PER_S))).result
    assert result.inconclusive
    assert result.reason == "this machine has no free local address or port for the connection"
