from __future__ import annotations

import shutil
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from hawatch.agent.core_socket import LOOK_S, CtlSocket
from hawatch.agent.places import Places
from hawatch.agent.runtime import open_ctl_socket
from hawatch.control.protocol import AnyRequest, Done, Reply, Status, encode_line, raw
from hawatch.model import Event


class Site:
    def __init__(self, places: Places) -> None:
        self.places = places
        self.listener = open_ctl_socket(places, "")
        self.listener.setblocking(False)
        self.events: list[Event] = []
        self.asked = 0
        self.ctl = CtlSocket(places, self.answer, self.events.extend, self.want)

    async def answer(self, request: AnyRequest, send: Callable[[Reply], Awaitable[None]]) -> Reply:
        return Done(data=raw({}))

    def want(self) -> None:
        """Do as the keeper does."""
        self.asked += 1
        if self.places.runtime_dir.is_dir():
            self.ctl.take(open_ctl_socket(self.places, "").detach())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "run").mkdir()
    return Site(Places(tmp_path / "hawatch.toml", tmp_path / "run", tmp_path / "state"))


async def ask(stream: trio.SocketStream) -> bytes:
    await stream.send_all(encode_line(Status()))
    return bytes(await stream.receive_some())


async def wait(condition: Callable[[], object]) -> None:
    with trio.fail_after(10 * LOOK_S):
        while not condition():
            await trio.sleep(LOOK_S / 10)


async def test_a_socket_that_is_removed_is_made_anew_and_nobody_is_cut_off(
    site: Site, mock_clock: trio.testing.MockClock
) -> None:
    mock_clock.rate = 20.0
    path = site.places.ctl_socket
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.ctl.serve, site.listener)
        async with await trio.open_unix_socket(path) as early:
            for number in (1, 2):
                path.unlink()
                await wait(path.exists)
                assert site.asked == number
                assert stat.S_IMODE(path.stat().st_mode) == 0o660
                async with await trio.open_unix_socket(path) as late:
                    assert b"done" in await ask(late)
            assert b"done" in await ask(early)
        await trio.sleep(3 * LOOK_S)
        assert site.asked == 2
        nursery.cancel_scope.cancel()
    assert (site.events, site.ctl.problem) == ([], "")


async def test_a_socket_that_cannot_be_made_anew_is_told_of_once(
    site: Site, mock_clock: trio.testing.MockClock
) -> None:
    mock_clock.rate = 20.0
    shutil.rmtree(site.places.runtime_dir)
    site.places.runtime_dir.write_text("in the way")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.ctl.serve, site.listener)
        await wait(lambda: site.asked == 4)
        assert [event.name for event in site.events] == ["state_broken"]
        assert site.ctl.problem
        site.places.runtime_dir.unlink()
        site.places.runtime_dir.mkdir()
        await wait(site.places.ctl_socket.exists)
        await wait(lambda: site.ctl.problem == "")
        nursery.cancel_scope.cancel()
