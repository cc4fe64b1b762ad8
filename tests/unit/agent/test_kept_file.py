"""The newest content is written by a thread; a failure is told, and tried again."""

from __future__ import annotations

import threading

import trio

from hawatch.agent.kept_file import KeptFile


async def test_it_is_tried_again_until_it_is_written_and_told_once() -> None:
    problems, written, told = ["full", "full", "broken", ""], list[int](), list[str]()

    def write(content: int) -> str:
        assert threading.current_thread() is not threading.main_thread()
        written.append(content)
        return problems.pop(0)

    kept = KeptFile[int](write, told.append, 0.01)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.run)
        kept.keep(1)
        with trio.fail_after(10):
            await kept.wait(9)
            assert told == ["full"]
            kept.keep(2)
            kept.keep(3)
            while problems:
                await trio.sleep(0.01)
            await kept.wait(9)
        await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    assert written == [1, 3, 3, 3], "the newest only, and no more once it is written"
    assert told == ["full", "broken"]


async def test_a_disk_that_hangs_holds_up_nobody() -> None:
    go_on = threading.Event()

    def write(_content: int) -> str:
        go_on.wait(30)
        return ""

    kept = KeptFile[int](write, lambda problem: None, 1.0)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kept.run)
            kept.keep(1)
            await kept.wait(0.05)
            nursery.cancel_scope.cancel()
    go_on.set()
