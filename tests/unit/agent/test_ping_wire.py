"""Echoes over a wire, to a host that answers them as no host should: as somebody else, with another number, twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from random import Random

import pytest
import trio

from hawatch.agent.ping_lane import PingLane
from hawatch.agent.runner import boottime_ns, run_probe
from hawatch.health.schedule import Schedule
from hawatch.model import NS_PER_MS, NS_PER_S, Check
from hawatch.plugin import Attempt, Result, Target
from hawatch.probes.ping import PingOptions, PingProbe

pytestmark = pytest.mark.netns

TIMEOUT_NS = 300 * NS_PER_MS
TARGETS = {4: "198.18.78.2", 6: "fd00:78::2"}
OTHERS = {4: "198.18.78.66", 6: "fd00:78::66"}

LIAR = """\
import socket, struct, sys
version, behaviour, other = int(sys.argv[1]), sys.argv[2], sys.argv[3]
family, protocol = ((socket.AF_INET, socket.IPPROTO_ICMP), (socket.AF_INET6, socket.IPPROTO_ICMPV6))[version == 6]
listen, speak = (socket.socket(family, socket.SOCK_RAW, protocol) for _ in range(2))
speak.bind((other if behaviour == "foreign" else sys.argv[4], 0))
print("ready", flush=True)
while True:
    data, source = listen.recvfrom(2048)
    data = data[(data[0] & 15) * 4:] if version == 4 else data
    if data[0] != {4: 8, 6: 128}[version]:
        continue
    identifier, sequence, payload = *struct.unpack_from("!HH", data, 4), data[8:]
    if behaviour == "identifier":
        identifier ^= 1
    elif behaviour == "sequence":
        sequence ^= 0x8000
    elif behaviour == "payload":
        payload = bytes(len(payload))
    elif behaviour == "short":
        payload = payload[:7]
    elif behaviour == "mirrored":
        pass
    kind = {4: 0, 6: 129}[version] if behaviour != "mirrored" else data[0]
    reply = struct.pack("!BBHHH", kind, 0, 0, identifier, sequence) + payload
    if version == 4:
        total = sum(struct.unpack(f"!{len(reply) // 2}H", reply + b"\\0" * (len(reply) % 2))) if len(reply) % 2 == 0 \\
            else sum(struct.unpack(f"!{len(reply) // 2 + 1}H", reply + b"\\0"))
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        reply = reply[:2] + struct.pack("!H", 0xFFFF - total) + reply[4:]
    for _ in range(2 if behaviour == "twice" else 1):
        speak.sendto(reply, source[:2])
"""


@pytest.fixture(scope="module")
def wire() -> Iterator[str]:
    """A namespace with a wire to here, whose kernel answers no echo."""
    name = f"hwpw{os.getpid() % 1000000}"
    script = (
        f"set -e; ip netns add {name}; ip link add {name} type veth peer name eth0 netns {name}; "
        f"ip address add 198.18.78.1/24 dev {name}; ip address add fd00:78::1/64 dev {name} nodad; "
        f"ip link set {name} up; ip -n {name} link set eth0 up; "
        + "".join(f"ip -n {name} address add {one}/24 dev eth0; " for one in (TARGETS[4], OTHERS[4]))
        + "".join(f"ip -n {name} address add {one}/64 dev eth0 nodad; " for one in (TARGETS[6], OTHERS[6]))
        + f"ip netns exec {name} sysctl -qw net.ipv4.icmp_echo_ignore_all=1 net.ipv6.icmp.echo_ignore_all=1"
    )
    try:
        subprocess.run(["sh", "-c", script], check=True)
        yield name
    finally:
        subprocess.run(["sh", "-c", f"ip netns delete {name}; ip link delete {name} 2>/dev/null"], check=False)


async def by_the_lane(address: str) -> Result:
    """Look with the lane, as the prober does."""
    results: list[Result] = []
    check = Check("c", "ping", {}, address, None, NS_PER_S, TIMEOUT_NS, 1, 1)
    schedule = Schedule("", Random(1))
    schedule.assign([check], 0)
    lane = PingLane(lambda _slot, result, _start, _end: results.append(result))
    echo = PingProbe(PingOptions(size=32), Target(address, None)).echo()
    try:
        lane.start(schedule.take_due(schedule.next_due_ns())[0], echo)
        with trio.fail_after(10):
            while not results:
                lane.poll()
                lane.expire(boottime_ns())
                await trio.sleep(0.002)
    finally:
        lane.close()
    return results[0]


async def by_the_command(address: str) -> Result:
    """Look as `hawatch probe` does."""
    return (await run_probe(PingProbe(PingOptions(size=32), Target(address, None)), Attempt(TIMEOUT_NS))).result


@pytest.fixture
def liar(wire: str, version: int, behaviour: str) -> Iterator[None]:
    command = ["ip", "netns", "exec", wire, sys.executable, "-c", LIAR]
    command += [str(version), behaviour, OTHERS[version], TARGETS[version]]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


SILENT = "no echo reply in 300 ms"
CASES = [
    ("honest", ""),
    ("twice", ""),
    ("foreign", "no echo reply from it (only from {other}) in 300 ms"),
    ("identifier", SILENT),
    ("sequence", SILENT),
    ("payload", SILENT),
    ("short", SILENT),
    ("mirrored", SILENT),
]


@pytest.mark.parametrize("look", [by_the_lane, by_the_command])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("behaviour", "reason"), CASES, ids=[name for name, _ in CASES])
@pytest.mark.usefixtures("liar")
async def test_only_an_honest_answer_counts(look, version, behaviour, reason):
    result = await look(TARGETS[version])
    assert result.reason == reason.format(other=OTHERS[version])
    assert result.ok is (not reason)
