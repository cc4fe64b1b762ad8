"""A probe of Redis servers, as a package of its own."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from hawatch.plugin import Conversation, Options, Probe, Receive, Send, down, up

ANSWER_LIMIT = 16384


class RedisOptions(Options):
    """Options of the redis probe; what is written here is checked and documented by hawatch."""

    role: Literal["any", "master", "slave"] = Field(default="any", description="role that the server must have")


class RedisProbe(Probe):
    """PING must be answered by PONG, and the server must have the wanted role."""

    options_type: ClassVar[type[Options]] = RedisOptions
    default_port: ClassVar[int | None] = 6379

    def converse(self) -> Conversation:
        """Ask with inline commands."""
        assert isinstance(self.options, RedisOptions)
        yield Send(b"PING\r\n")
        answer = yield Receive("answer to PING")
        if not answer.startswith(b"+PONG"):
            return down(f'answer to PING was {answer[:60]!r}, wanted "+PONG"')
        if self.options.role == "any":
            return up()
        yield Send(b"INFO replication\r\n")
        wanted = f"role:{self.options.role}".encode()
        text = b""
        while b"role:" not in text or not text.endswith(b"\r\n"):
            data = yield Receive("answer to INFO")
            text += data
            if not data or len(text) > ANSWER_LIMIT:
                return down("no role in the answer to INFO")
        role = text.partition(b"role:")[2].split(b"\r\n")[0]
        if role != wanted.removeprefix(b"role:"):
            return down(f"role is {role.decode('ascii', 'replace')}, wanted {self.options.role}")
        return up(f"role {self.options.role}")
