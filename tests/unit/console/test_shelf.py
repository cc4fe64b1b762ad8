"""The store behind the event loop."""

from __future__ import annotations

import contextlib
import socket

import pytest
import trio

from hawatch.actions.email import MailServer, send_mail
from hawatch.actions.outgoing import SendError
from hawatch.console.shelf import Shelf
from hawatch.console.store import Store
from hawatch.model import NS_PER_S
from tests.unit.actions.test_outgoing import outgoing
from tests.unit.console.records import START_NS

TIMEOUT_S = 4.0


# The library leaves a connection that timed out to the garbage collector, with its loop.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_the_journal_waits_for_no_mail_server(tmp_path):
    """A hundred messages to servers that say nothing take threads, but not the journal's."""
    store = Store(tmp_path / "console.db", NS_PER_S, lambda: START_NS)
    shelf = Shelf(store)

    async def send(port):
        with contextlib.suppress(SendError):
            await send_mail(outgoing(), "a@b.c", "d@e.f", [MailServer("127.0.0.1", port, "none")], TIMEOUT_S)

    with contextlib.closing(store), socket.create_server(("127.0.0.1", 0), backlog=200) as silent:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(send, silent.getsockname()[1])
            await trio.sleep(0.5)
            with trio.fail_after(TIMEOUT_S - 1):
                assert await shelf.do(lambda one: one.last_id()) == 0
            nursery.cancel_scope.cancel()
