"""The ctl socket as the core serves it: that it is there, and that whoever is connected stays so.

The keeper, which alone has the rights for that, makes the socket and hands it to each core. Where somebody has removed
the file, the core asks the keeper for another one within seconds.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import trio

from hawatch.agent.ownership import Emit
from hawatch.agent.places import Places
from hawatch.control.server import ControlServer, Handler
from hawatch.model import Event, Severity

LOOK_S = 3.0
"""How often the file is looked for."""


class CtlSocket:
    """Serves the ctl socket of one core."""

    def __init__(self, places: Places, handler: Handler, emit: Emit, want: Callable[[], object]) -> None:
        """`want` asks the keeper for another socket, which comes by `take`."""
        self.problem = ""
        """Why there is no socket; "" when there is."""
        self._path = places.ctl_socket
        self._server = ControlServer(handler, self._group_id)
        self._emit = emit
        self._want = want
        self._asked = False
        """The keeper was asked, and has not answered."""
        self._send, self._receive = trio.open_memory_channel[socket.socket](1)

    def _group_id(self) -> int | None:
        try:
            return self._path.stat().st_gid
        except OSError:
            return None

    def take(self, descriptor: int) -> None:
        """Serve another listening socket from now on."""
        self._asked = False
        listener = socket.socket(fileno=descriptor)
        listener.setblocking(False)
        try:
            self._send.send_nowait(listener)
        except trio.WouldBlock:
            listener.close()

    async def serve(self, listener: socket.socket) -> None:
        """Serve until cancelled; where the file is gone, have it made anew."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            while True:
                serving = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
                nursery.start_soon(self._server.serve, serving)
                listener = await self._receive.receive()
                await serving.aclose()

    async def _watch(self) -> None:
        while True:
            await trio.sleep(LOOK_S)
            if self._path.exists():
                self._note("")
                continue
            if self._asked:
                self._note(f"{self._path} was removed and cannot be made anew: standard error says why")
            self._asked = True
            self._want()

    def _note(self, problem: str) -> None:
        if problem and not self.problem:
            self._emit([Event("state_broken", f"{problem}; it is tried again", Severity.WARNING)])
        self.problem = problem
