"""What a node keeps from process to process: a file that is lost is no first start."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from hawatch.agent.lease_memory import (
    LeaseMemory,
    Pins,
    last_boot,
    read_pins,
    read_run,
    write_boot,
    write_pins,
    write_run,
)
from hawatch.agent.places import Places
from hawatch.cluster.membership import FormerRun
from hawatch.cluster.parameters import LEASE_NS_MAX

UNKNOWN = FormerRun(0, LEASE_NS_MAX, settled=False)
RUN = FormerRun((1 << 64) - 1, 600_000_000, settled=True)


class Disk:
    """A state directory, and what is told of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[str] = []

    def memory(self) -> LeaseMemory:
        return LeaseMemory(Places(self.path, self.path, self.path), self.told.append, 0.01)

    async def live(self, boot: int, run: FormerRun) -> None:
        """Be a process that starts and ends."""
        memory = self.memory()
        memory.former()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(memory.run)
            await memory.begin(boot, run)
            with trio.fail_after(10):
                while last_boot(self.path / "boot") != boot:
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


@pytest.mark.parametrize("settled", [True, False])
def test_what_the_next_process_must_know_is_kept(settled: bool, tmp_path: Path) -> None:
    path = tmp_path / "members"
    run = FormerRun((1 << 64) - 1, 600_000_000, settled=settled)
    assert write_run(path, run) == ""
    assert read_run(path, began=True) == (run, "")
    assert "stop all nodes before" in write_run(tmp_path / "missing" / "members", run)


@pytest.mark.parametrize("text", ["", "1 2", "a 2 settled", "1 x settled", "\xff"])
def test_a_file_that_is_none_may_have_held_anything(text: str, disk: Disk) -> None:
    (disk.path / "members").write_bytes(text.encode("latin-1"))
    assert disk.memory().former() == UNKNOWN
    (problem,) = disk.told
    assert "members is broken: what this node promised before is not known" in problem
    assert "1 min more" in problem or "60" in problem


def test_a_longest_lease_from_a_broken_file_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "members"
    path.write_text(f"7 {10**30} settled")
    assert read_run(path, began=True) == (FormerRun(7, LEASE_NS_MAX, settled=True), "")


async def test_only_a_node_that_never_ran_starts_for_the_first_time(disk: Disk) -> None:
    assert disk.memory().former() is None
    await disk.live(5, RUN)
    assert disk.memory().former() == RUN
    assert disk.told == []
    (disk.path / "members").unlink()
    assert disk.memory().former() == UNKNOWN
    assert "members is missing" in disk.told[0]
    (disk.path / "members").mkdir()
    assert disk.memory().former() == UNKNOWN
    assert "members cannot be read (Is a directory)" in disk.told[1]


async def test_a_list_that_the_next_process_would_not_know_is_on_disk_before_anything_is_said(disk: Disk) -> None:
    memory = disk.memory()
    memory.former()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(memory.run)
        await memory.begin(5, RUN)
        assert read_run(disk.path / "members", began=False) == (RUN, "")
        nursery.cancel_scope.cancel()


async def test_what_could_not_be_kept_is_told_and_tried_again(disk: Disk) -> None:
    hindrance = disk.path / "members.new"
    hindrance.mkdir()
    (disk.path / "pinned.new").mkdir()
    memory = disk.memory()
    memory.former()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(memory.run)
        await memory.begin(5, RUN)
        memory.keep_pins(("web",), ())
        await memory.wait_pins(5)
        assert len(disk.told) == 2
        hindrance.rmdir()
        (disk.path / "pinned.new").rmdir()
        with trio.fail_after(10):
            while disk.memory().pins() != Pins(("web",)) or read_run(disk.path / "members", began=True)[0] != RUN:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


def test_boot_numbers_grow_with_the_clock_or_without_it(disk: Disk) -> None:
    assert disk.memory().next_boot(1000) == 1000
    assert write_boot(disk.path / "boot", 1000) == ""
    assert disk.memory().next_boot(999) == 1001
    (disk.path / "boot").write_text("?")
    assert disk.memory().next_boot(999) == 999
    assert last_boot(disk.path / "boot") == 0
    assert "keep the machine's clock right" in write_boot(disk.path / "none" / "boot", 5)


def test_what_administrators_chose_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "pinned"
    assert read_pins(path) == Pins(())
    assert write_pins(path, Pins(("mail", "web"), ("web",))) == ""
    assert read_pins(path) == Pins(("mail", "web"), ("web",))
    assert "fall back" in write_pins(tmp_path / "none" / "pinned", Pins(()))
