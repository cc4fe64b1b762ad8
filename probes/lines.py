"""Line-based conversations: bounded reading of lines, and how an unexpected answer ends the conversation."""

from __future__ import annotations

from collections.abc import Generator

from hawatch.plugin import Receive, Step
from hawatch.text import quoted

LINE_LIMIT = 4096
"""Bytes of one line; SMTP and POP3 allow 512, servers with long greetings exceed it."""
LINES_LIMIT = 100
"""Lines of one answer."""
CONVERSATION_LIMIT = 64 << 10
"""Bytes that a server may say in one conversation."""


class UnexpectedAnswer(Exception):
    """The server said something else than wanted; the message is the reason of the failure."""


class LineReader:
    """Takes lines out of a stream. Lines may end with LF alone, as those of some servers do."""

    def __init__(self, *secrets: str) -> None:
        self._secrets = [secret.encode() for secret in secrets if secret]
        self._pending = b""
        self._received = 0

    def line(self, what: str) -> Generator[Step, bytes, bytes]:
        """Return the next line without its end. `what` is the answer that the line belongs to."""
        while b"\n" not in self._pending:
            if len(self._pending) > LINE_LIMIT:
                raise UnexpectedAnswer(f"{what} with a line of more than {LINE_LIMIT} bytes")
            data = yield Receive(f"end of {what}" if self._pending else what)
            if not data:
                so_far = f" after {self.quoted(self._pending)}" if self._pending else ""
                raise UnexpectedAnswer(f"connection closed by the server{so_far}, wanted {what}")
            self._received += len(data)
            if self._received > CONVERSATION_LIMIT:
                raise UnexpectedAnswer(f"server said more than {CONVERSATION_LIMIT} bytes, last in its {what}")
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        if len(line) > LINE_LIMIT:
            raise UnexpectedAnswer(f"{what} with a line of more than {LINE_LIMIT} bytes")
        return line.removesuffix(b"\r")

    def refuse_pending(self, what: str) -> None:
        """Refuse what came together with `what` though it was not asked for.

        Before TLS begins that could be text slipped in by someone between us and the server.
        """
        if self._pending:
            raise UnexpectedAnswer(f"server said more than its {what}: {self.quoted(self._pending)}")

    def quoted(self, data: bytes) -> str:
        """Return what the server said, fit for a reason, without secrets: servers echo what they dislike."""
        for secret in self._secrets:
            data = data.replace(secret, b"***")
        return quoted(data)
