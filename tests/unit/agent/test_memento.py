from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hawatch.agent.memento import SLOT_BYTES, Memento, make_memento
from hawatch.health.decide import ServiceMemory
from hawatch.model import DestinationKey, ServerState

FIRST, SECOND = DestinationKey("192.0.2.1", 80), DestinationKey("2001:db8::1", 80)


def memory(*, down: bool) -> dict[str, ServiceMemory]:
    states = {FIRST: ServerState.DOWN, SECOND: ServerState.UP}
    return {"web": ServiceMemory(states, frozenset((SECOND,)), down), "mail": ServiceMemory()}


@pytest.fixture
def file() -> Iterator[int]:
    descriptor = make_memento()
    yield descriptor
    os.close(descriptor)


def test_the_next_core_finds_what_was_left_last(file: int) -> None:
    assert Memento(file).read() is None
    first = Memento(file)
    for turn in range(5):
        first.write(memory(down=bool(turn % 2)))
    second = Memento(file)
    assert second.read() == memory(down=False)
    second.write(memory(down=True))
    assert Memento(file).read() == memory(down=True)


@pytest.mark.parametrize("damage", [0, 8, 12, 17], ids=["sequence", "length", "checksum", "data"])
def test_a_slot_that_was_being_written_is_passed_over(file: int, damage: int) -> None:
    writer = Memento(file)
    writer.write(memory(down=False))
    writer.write(memory(down=True))
    os.pwrite(file, b"\xff" if damage else b"\0" * 8, 0 * SLOT_BYTES + damage)
    assert Memento(file).read() == memory(down=False)


def test_it_is_not_passed_on_to_programs(file: int) -> None:
    assert os.get_inheritable(file) is False
