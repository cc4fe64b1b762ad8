"""Floods of datagrams for the heartbeat port, and what a node goes through meanwhile.

    python -m tests.lab.flood PACKETS RATE SECONDS

sends the IPv4 packets of a file, round and round, many a system call, and prints how many left. What the packets are is
decided by `make`: noise from a stranger, copies of real heartbeats with some bytes changed, the same under the address
of the member that sent them, or real ones as they were.
"""

from __future__ import annotations

import ctypes
import os
import random
import socket
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hawatch.cluster.wire import DATAGRAM_BYTES_MAX
from tests.bench.cost import cpu_ns
from tests.lab.netns import call_in_namespace

PORT = 694
KINDS = ("random", "mutated", "forged", "replayed")
BATCH = 64
ETH_P_IP = 0x0800
CAPTURED_MAX = 5000
IP_HEADER = struct.Struct("!BBHHHBBH4s4s")
UDP_HEADER = struct.Struct("!HHHH")


@dataclass(frozen=True, slots=True)
class Heard:
    """One datagram as it was on the wire."""

    source: str
    target: str
    payload: bytes


class Iovec(ctypes.Structure):
    """struct iovec"""

    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class Message(ctypes.Structure):
    """struct mmsghdr"""

    _fields_ = (
        ("name", ctypes.c_char_p), ("name_length", ctypes.c_uint32), ("iov", ctypes.POINTER(Iovec)),
        ("iov_count", ctypes.c_size_t), ("control", ctypes.c_void_p), ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int), ("sent", ctypes.c_uint),
    )  # fmt: skip


def capture(namespace: str, seconds: float) -> list[Heard]:
    """Return the heartbeats that pass a node's interfaces."""

    def listen() -> list[Heard]:
        found: list[Heard] = []
        end_at = time.monotonic() + seconds
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP)) as wire:
            wire.settimeout(0.1)
            while time.monotonic() < end_at and len(found) < CAPTURED_MAX:
                try:
                    packet = wire.recv(2048)
                except TimeoutError:
                    continue
                if packet[9] == socket.IPPROTO_UDP and packet[22:24] == PORT.to_bytes(2, "big"):
                    source, target = (socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16))
                    found.append(Heard(source, target, packet[28:]))
        return found

    return call_in_namespace(namespace, listen)


def packet(source: str, target: str, payload: bytes) -> bytes:
    """Return an IPv4 packet; the kernel fills in checksum and number."""
    length = IP_HEADER.size + UDP_HEADER.size + len(payload)
    addresses = socket.inet_aton(source), socket.inet_aton(target)
    head = IP_HEADER.pack(0x45, 0xC0, length, 0, 0, 64, socket.IPPROTO_UDP, 0, *addresses)
    return head + UDP_HEADER.pack(PORT, PORT, UDP_HEADER.size + len(payload), 0) + payload


def mutated(payload: bytes, chance: random.Random) -> bytes:
    """Return a datagram with a few bytes changed, and now and then cut or lengthened."""
    changed = bytearray(payload)
    for _ in range(chance.randint(1, 4)):
        changed[chance.randrange(len(changed))] ^= chance.randint(1, 255)
    if chance.random() < 0.1:
        changed = changed[: chance.randrange(1, len(changed))]
    elif chance.random() < 0.1:
        changed += chance.randbytes(chance.randint(1, 64))
    return bytes(changed)


def make(kind: str, heard: Sequence[Heard], strangers: Sequence[str], targets: Sequence[str], seed: int) -> list[bytes]:
    """Return the packets of one flood against `targets`, which pair with `strangers` link by link."""
    chance = random.Random(seed)
    aimed = [each for each in heard if each.target in targets]
    assert aimed, "no heartbeat was heard"
    if kind == "replayed":
        return [packet(each.source, each.target, each.payload) for each in aimed]
    made = []
    for number in range(4000):
        place = number % len(targets)
        if kind == "random":
            payload = chance.randbytes(chance.randint(0, DATAGRAM_BYTES_MAX + 100))
            made.append(packet(strangers[place], targets[place], payload))
            continue
        like = chance.choice(aimed)
        source = like.source if kind == "forged" else strangers[targets.index(like.target)]
        made.append(packet(source, like.target, mutated(like.payload, chance)))
    return made


def write(path: Path, packets: Sequence[bytes]) -> None:
    """Write packets to a file for the sender."""
    path.write_bytes(b"".join(len(each).to_bytes(2, "big") + each for each in packets))


def read(path: Path) -> list[bytes]:
    """Read what `write` wrote."""
    data, found, at = path.read_bytes(), [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        found.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    return found


def send(packets: Sequence[bytes], rate: int, seconds: float) -> int:
    """Send at a steady rate, as far as this machine can; return how many left."""
    libc = ctypes.CDLL(None, use_errno=True)
    messages = (Message * len(packets))()
    keep = []
    for message, data in zip(messages, packets, strict=True):
        iov = Iovec(data, len(data))
        name = struct.pack("=HH4s8x", socket.AF_INET, 0, data[16:20])
        keep += [iov, name]
        message.name, message.name_length = name, len(name)
        message.iov, message.iov_count = ctypes.pointer(iov), 1
    sent = at = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as end:
        start = time.monotonic()
        while (passed := time.monotonic() - start) < seconds:
            if sent > passed * rate:
                time.sleep(0.0005)
                continue
            count = min(BATCH, len(packets) - at)
            done = libc.sendmmsg(end.fileno(), ctypes.byref(messages, at * ctypes.sizeof(Message)), count, 0)
            if done < 0 and ctypes.get_errno() not in (105, 11):  # ENOBUFS, EAGAIN
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            sent += max(done, 0)
            at = (at + count) % len(packets)
    return sent


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process has used so far."""

    at: float
    cpu_ns: int
    memory_kb: int

    @classmethod
    def of(cls, pid: int) -> Sample:
        """Look at a process now."""
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        # Not RSS: in a forked process that grows by pages that it merely writes to for the first time.
        memory = sum(int(line.split()[1]) for line in status.splitlines() if line.startswith(("VmData", "VmStk")))
        return cls(time.monotonic(), cpu_ns([pid]), memory)

    def share_since(self, before: Sample) -> float:
        """Return the share of a processor that was used since."""
        return (self.cpu_ns - before.cpu_ns) / 1e9 / (self.at - before.at)


def main() -> int:
    """Send what the command line says."""
    path, rate, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    print(send(read(path), rate, seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
