"""The ctl socket's server: many clients, none of which can hurt the core or another client.

Each client is a task with time limits on every read and write, so that one that is slow, silent or stopped costs
a slot for a while and nothing else. One request is carried out at a time for each client.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Awaitable, Callable

import trio

from hawatch.control.access import peer_of, refusal
from hawatch.control.protocol import REQUEST_LIMIT, AnyRequest, Refused, Reply, decode_request, encode_line

CLIENTS_LIMIT = 64
"""Clients served at once; one more is told so."""
IDLE_LIMIT_S = 60.0
"""A client may stay without a request for so long."""
SEND_LIMIT_S = 10.0
"""A client must take one reply within so long."""
CHUNK_BYTES = 16384

Send = Callable[[Reply], Awaitable[None]]
Handler = Callable[[AnyRequest, Send], Awaitable[Reply]]
"""Carries out a request; may send progress and events before it returns the final reply."""


class ControlServer:
    """Serves the clients of one listening socket."""

    def __init__(self, handler: Handler, group_id: Callable[[], int | None]) -> None:
        self._handler = handler
        self._group_id = group_id
        self._clients = 0

    async def serve(self, listener: trio.SocketListener) -> None:
        """Serve until cancelled, then close the socket; where it is closed before, to the end of its last client."""
        async with listener, trio.open_nursery() as nursery:
            while True:
                try:
                    stream = await listener.accept()
                except trio.ClosedResourceError:
                    return
                except OSError as error:  # out of descriptors: the client waits in the backlog
                    print(f"hawatch core: ctl socket: {error}", file=sys.stderr, flush=True)
                    await trio.sleep(1)
                    continue
                nursery.start_soon(self._client, stream)

    async def _client(self, stream: trio.SocketStream) -> None:
        self._clients += 1
        try:
            async with stream:
                await self._converse(stream)
        except (trio.BrokenResourceError, trio.TooSlowError, OSError):
            pass  # the client is gone or does not read: its own loss
        except Exception:  # noqa: BLE001 - the root of a client's task: a mistake of ours costs one client
            traceback.print_exc()
        finally:
            self._clients -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        async def send(reply: Reply) -> None:
            with trio.fail_after(SEND_LIMIT_S):
                await stream.send_all(encode_line(reply))

        if self._clients > CLIENTS_LIMIT:
            await send(Refused(reason=f"{CLIENTS_LIMIT} clients are connected already"))
            return
        reason = refusal(peer_of(stream.socket), self._group_id())
        if reason:
            await send(Refused(reason=reason))
            return
        lines = _Lines(stream)
        while (line := await lines.next()) is not None:
            if len(line) > REQUEST_LIMIT:
                await send(Refused(reason=f"the request is longer than {REQUEST_LIMIT} bytes"))
                return
            request = decode_request(line)
            if isinstance(request, Refused):
                await send(request)
                continue
            if not await self._answer(stream, request, send):
                return

    async def _answer(self, stream: trio.SocketStream, request: AnyRequest, send: Send) -> bool:
        """Carry out one request; False when the client left, or stopped reading, before it was done."""
        finished = False
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                """Notice a client that leaves while its request is being carried out."""
                while await _still_there(stream):
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            try:
                await send(await self._carry_out(request, send))
                finished = True
            except (trio.BrokenResourceError, trio.TooSlowError):
                pass  # caught here: out of the nursery it would come in a group, by another name
            nursery.cancel_scope.cancel()
        return finished

    async def _carry_out(self, request: AnyRequest, send: Send) -> Reply:
        try:
            return await self._handler(request, send)
        except (trio.BrokenResourceError, trio.TooSlowError):
            raise
        except Exception as error:  # noqa: BLE001 - the root of a client's task: a mistake of ours costs one reply
            traceback.print_exc()
            return Refused(reason=f"the agent made a mistake: {error!r}")


async def _still_there(stream: trio.SocketStream) -> bool:
    """Wait until the client sends something or leaves; bytes are left where they are."""
    await trio.lowlevel.wait_readable(stream.socket)
    try:
        there = bool(await stream.socket.recv(1, trio.socket.MSG_PEEK))
    except OSError:
        return False
    if there:
        await trio.sleep(SEND_LIMIT_S / 100)  # a request sent ahead waits for its turn
    return there


class _Lines:
    """The lines that a client sends."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def next(self) -> bytes | None:
        """Return the next line, as far as it came when it is too long; None when the client left or is silent."""
        with trio.move_on_after(IDLE_LIMIT_S):
            while (end := self._buffer.find(b"\n")) < 0 and len(self._buffer) <= REQUEST_LIMIT:
                data = await self._stream.receive_some(CHUNK_BYTES)
                if not data:
                    return None
                self._buffer += data
            end = end if end >= 0 else len(self._buffer)
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            return line
        return None
