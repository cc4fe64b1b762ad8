from __future__ import annotations

import argparse
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hawatch.cli import ctl
from hawatch.cli.main import main
from hawatch.control import protocol
from hawatch.control.protocol import Done, EventLine, Progress, Refused, Reply, decode_request, encode_line, raw
from hawatch.errors import UsageError


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    ctl.configure(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (["status"], protocol.Status()),
        (["drain", "http", "192.0.2.1"], protocol.Drain(service="http", server="192.0.2.1")),
        (
            ["drain", "all", "all", "--wait", "--timeout", "1m"],
            protocol.Drain(service="all", server="all", wait=True, timeout_s=60.0),
        ),
        (["undrain", "a", "b"], protocol.Undrain(service="a", server="b")),
        (["disable", "a", "b"], protocol.Disable(service="a", server="b")),
        (["enable", "a", "b"], protocol.Enable(service="a", server="b")),
        (["events", "-n", "3", "-f"], protocol.Events(count=3, follow=True)),
        (["reload"], protocol.Reload()),
        (["switchover", "--group", "web", "--to", "lvs2"], protocol.Switchover(group="web", to="lvs2")),
        (["takeover", "--force", "--group", "web"], protocol.Takeover(group="web", force=True)),
        (["giveaway"], protocol.Giveaway()),
        (["resume"], protocol.Resume()),
    ],
)
def test_words_become_requests(words: list[str], request_: protocol.Request) -> None:
    assert ctl.make_request(parse(*words)) == request_


@pytest.mark.parametrize(
    "words",
    [
        [], ["explode"], ["drain", "http"],
        ["drain", "a", "b", "--timeout", "5"], ["drain", "a", "b", "--timeout", "s"],
        ["events", "-n", "-1"], ["events", "-n", "x"], ["events", "-n", "10001"], ["events", "-n", "9" * 5000], ["takeover", "--group", "web"],
    ],
)  # fmt: skip
def test_words_that_are_no_command_are_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["ctl", *words])
    assert ending.value.code == 2
    capsys.readouterr()


def test_a_timeout_without_waiting_is_usage() -> None:
    with pytest.raises(UsageError, match="only with --wait"):
        ctl.make_request(parse("drain", "a", "b", "--timeout", "5s"))


class Agent:
    """Answers each request with what the test says."""

    def __init__(self, directory: Path) -> None:
        self.replies: list[Reply] = []
        self.requests: list[object] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / "ctl.sock"))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rb") as lines:
            for line in lines:
                self.requests.append(decode_request(line))
                for reply in self.replies:
                    connection.sendall(encode_line(reply))

    def close(self) -> None:
        self._thread.join(10)
        self._listener.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    found = Agent(tmp_path)
    yield found
    found.close()


def run(tmp_path: Path, *words: str) -> int:
    return main(["ctl", "--runtime-dir", str(tmp_path), *words])


def test_done(agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent.replies = [Progress(text="2 connections left"), Done(data=raw({"changes": ["http a: drained"]}))]
    assert run(tmp_path, "drain", "http", "a", "--wait") == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("http a: drained\n", "2 connections left\n")
    assert agent.requests == [protocol.Drain(service="http", server="a", wait=True)]


def test_json(agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent.replies = [Done(data=raw({"node": "lvs1"}))]
    assert run(tmp_path, "status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"node": "lvs1"}


def test_refused(agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent.replies = [Refused(reason="2 problems", problems=["line 3: no", "line 4: no"])]
    assert run(tmp_path, "reload", "--json") == 1
    captured = capsys.readouterr()
    assert captured.err == "hawatch ctl: 2 problems\n  line 3: no\n  line 4: no\n"
    assert json.loads(captured.out) == {"refused": "2 problems", "problems": ["line 3: no", "line 4: no"]}


def test_events(agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    event = {"time": "T", "node": "lvs1", "name": "server_up", "reason": "fine"}
    agent.replies = [EventLine(data=raw(event)), Done()]
    assert run(tmp_path, "events") == 0
    assert capsys.readouterr().out == "T lvs1 server_up: fine\n"


def test_no_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "status") == 3
    assert "no agent answers" in capsys.readouterr().err


def test_an_argument_that_is_no_text_is_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "ctl.sock"))
        listener.listen()
        assert run(tmp_path, "drain", "http", "\udcff") == 2
    assert "no text in UTF-8" in capsys.readouterr().err
