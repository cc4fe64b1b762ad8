"""What a core leaves to the next one: a file in memory, made by the keeper, that outlives any core.

Verdicts are in the probers and the table is in the kernel. What is in neither is what has been told: without it a
core that is born anew would tell of every server that is down as if it had just gone down.

Two slots are written in turn, each with a checksum, so that a core which is killed while it writes leaves the slot
before it whole.

    slot: sequence (8 bytes) | length (4) | CRC-32 of the data (4) | data
"""

from __future__ import annotations

import os
import struct
import zlib

import msgspec

from hawatch.health.decide import Memory, ServiceMemory
from hawatch.model import DestinationKey, ServerState

HEADER = struct.Struct(">QII")
SLOT_BYTES = 64 << 20
"""Room of a slot; the file is sparse."""


class _Service(msgspec.Struct, array_like=True):
    states: list[tuple[str, int, ServerState]]
    last_serving: list[tuple[str, int]]
    down: bool
    inherited: bool
    standby: bool


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, _Service])


class Memento:
    """The file, as one core uses it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._sequence = 0
        self._encoded: dict[str, tuple[ServiceMemory, msgspec.Raw]] = {}
        """What was written last, by service: only what has changed since is encoded again."""

    def read(self) -> Memory | None:
        """Return what the core before us has left; None when there was none."""
        found: tuple[int, bytes] | None = None
        for slot in range(2):
            held = self._read_slot(slot)
            if held is not None and (found is None or held[0] > found[0]):
                found = held
        if found is None:
            return None
        self._sequence = found[0]
        return {name: _to_memory(service) for name, service in _decoder.decode(found[1]).items()}

    def write(self, memory: Memory) -> None:
        """Leave this to the next core. Never waits: the file is in memory."""
        self._encoded = {name: self._encode(name, service) for name, service in memory.items()}
        data = _encoder.encode({name: raw for name, (_, raw) in self._encoded.items()})
        if len(data) > SLOT_BYTES - HEADER.size:
            return
        self._sequence += 1
        header = HEADER.pack(self._sequence, len(data), zlib.crc32(data))
        os.pwrite(self._descriptor, header + data, self._sequence % 2 * SLOT_BYTES)

    def _encode(self, name: str, service: ServiceMemory) -> tuple[ServiceMemory, msgspec.Raw]:
        found = self._encoded.get(name)
        if found is not None and found[0] is service:
            return found
        return service, msgspec.Raw(_encoder.encode(_from_memory(service)))

    def _read_slot(self, slot: int) -> tuple[int, bytes] | None:
        header = os.pread(self._descriptor, HEADER.size, slot * SLOT_BYTES)
        if len(header) < HEADER.size:
            return None
        sequence, length, checksum = HEADER.unpack(header)
        if sequence == 0 or length > SLOT_BYTES - HEADER.size:
            return None
        data = os.pread(self._descriptor, length, slot * SLOT_BYTES + HEADER.size)
        return (sequence, data) if zlib.crc32(data) == checksum else None


def make_memento() -> int:
    """Return the descriptor of a new file, empty."""
    return os.memfd_create("hawatch-memento", os.MFD_CLOEXEC)


def _from_memory(service: ServiceMemory) -> _Service:
    return _Service(
        [(key.address, key.port, state) for key, state in service.states.items()],
        [(key.address, key.port) for key in service.last_serving],
        service.down,
        service.inherited,
        service.standby,
    )


def _to_memory(service: _Service) -> ServiceMemory:
    return ServiceMemory(
        {DestinationKey(address, port): state for address, port, state in service.states},
        frozenset(DestinationKey(address, port) for address, port in service.last_serving),
        service.down,
        service.inherited,
        service.standby,
    )
