"""One request to the core over the ctl socket, as `hawatch ctl` makes it."""

from __future__ import annotations

from pathlib import Path

import trio

from hawatch.control.protocol import REPLY_LIMIT, Done, Refused, Request, decode_reply, encode_line
from hawatch.decoding import UNDECODABLE

ANSWER_S = 30.0
CHUNK_BYTES = 1 << 16


async def ask_core(path: Path, request: Request, limit_s: float = ANSWER_S) -> Done | Refused:
    """Return the last reply to a request, or why there is none."""
    try:
        with trio.fail_after(limit_s):
            async with await trio.open_unix_socket(str(path)) as stream:
                await stream.send_all(encode_line(request))
                return await _last_reply(stream)
    except trio.TooSlowError:
        return Refused(reason=f"the core has not answered for {limit_s:.0f} s; what was asked may still be done")
    except (OSError, trio.BrokenResourceError) as error:
        return Refused(reason=f"no core answers at {path}: {error}")


async def _last_reply(stream: trio.SocketStream) -> Done | Refused:
    buffer = bytearray()
    while True:
        data = await stream.receive_some(CHUNK_BYTES)
        if not data:
            return Refused(reason="the core ended before it had answered")
        buffer += data
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            try:
                reply = decode_reply(line)
            except UNDECODABLE as error:
                return Refused(reason=f"the core answers what this console does not know: {error}")
            if isinstance(reply, Done | Refused):
                return reply
        if len(buffer) > REPLY_LIMIT:
            return Refused(reason="the core's answer is too long")
