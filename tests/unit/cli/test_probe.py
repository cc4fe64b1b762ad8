from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from hawatch.cli.main import main
from tests.unit.servers import closed_port, script, silence, tcp_server

EXAMPLE = Path(__file__).parents[2] / "plugin_example"
SMTP = script(b"220 mail ESMTP\r\n", None, b"250 mail\r\n", None, b"221 bye\r\n")


async def command(*words: str) -> int:
    """Run the command beside this test's servers."""
    return await trio.to_thread.run_sync(main, ["probe", *words])


async def test_up(capsys: pytest.CaptureFixture[str]) -> None:
    async with tcp_server(SMTP) as port:
        assert await command("smtp", f"127.0.0.1:{port}", "hello=lvs1") == 0
    first, detail = capsys.readouterr().out.splitlines()
    assert first.startswith(f"smtp 127.0.0.1:{port}: up in ")
    assert detail == "  mail ESMTP; offers nothing"


async def test_down(capsys: pytest.CaptureFixture[str]) -> None:
    port = await closed_port()
    assert await command("smtp", f"127.0.0.1:{port}") == 1
    assert capsys.readouterr().out.rstrip().endswith(" ms: connection refused")


@pytest.mark.parametrize("timeout", [["--timeout", "150ms"], ["timeout=150ms"]])
async def test_timeout(capsys: pytest.CaptureFixture[str], timeout: list[str]) -> None:
    async with tcp_server(silence, host="::1") as port:
        assert await command("pop3", f"[::1]:{port}", *timeout) == 1
    said = capsys.readouterr().out
    assert said.startswith(f"pop3 [::1]:{port}: down in ")
    assert said.endswith(" ms: no greeting in 150 ms\n")


async def test_port_as_a_key_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    async with tcp_server(SMTP) as port:
        assert await command("--json", "smtp", "127.0.0.1", f"port={port}") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer.pop("latency_ms") > 0
    assert answer == {
        "type": "smtp",
        "address": "127.0.0.1",
        "port": port,
        "state": "up",
        "reason": "",
        "detail": "mail ESMTP; offers nothing",
        "facts": {},
        "weight": None,
    }


async def test_words_before_and_after_options(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["exec", "10.0.0.1", "command=/bin/echo,{address},{service},{group}", "--service", "s", "--json"]
    assert await command(*words, "style=plain", "--group", "g") == 0
    assert json.loads(capsys.readouterr().out)["detail"] == "10.0.0.1 s g"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ['"hawatch probe --list"']),
        (["nope", "127.0.0.1"], ['no probe of type "nope" is installed', "smtp"]),
        (["smtp"], ["ADDRESS[:PORT] is missing"]),
        (["smtp", "mail.example"], ['"mail.example" is no address', "[2001:db8::1]:25"]),
        (["smtp", "127.0.0.1:99999"], ["accepted: 1 to 65535"]),
        (["smtp", "127.0.0.1", "helo=x"], ["helo: unknown key", "accepted: capabilities, hello, "]),
        (["smtp", "127.0.0.1", "tls.verif=x"], ["tls.verif: unknown key", "ca_file"]),
        (["smtp", "127.0.0.1", "security=ssl"], ["security: ", "'none', 'starttls' or 'tls'".replace("'", '"')]),
        (["smtp", "127.0.0.1", "tls.verify=perhaps", "rcpt_to=<>"], ["tls.verify: ", "true or false", "rcpt_to: "]),
        (["smtp", "127.0.0.1", "hello"], ['"hello" is not key=value']),
        (["smtp", "127.0.0.1", "hello=a", "hello=b"], ['"hello" is given twice']),
        (["http", "127.0.0.1", "mark=7", "redirects=1"], ["does not go with redirects"]),
        (["smtp", "127.0.0.1", "source=eth0"], ["source: 'eth0' does not appear to be"]),
        (["smtp", "127.0.0.1", "rise=2"], ['"rise" belongs to the schedule']),
        (["smtp", "127.0.0.1", "--timeout", "5"], ['"5" is no timeout', '"100ms"']),
        (["smtp", "127.0.0.1", "timeout=0s"], ["longer than nothing"]),
        (["ping", "127.0.0.1:80"], ["asks no port"]),
        (["tcp", "127.0.0.1"], ["needs a port"]),
        (["exec", "127.0.0.1"], ["command: missing"]),
        (["exec", "127.0.0.1", "command=[1"], ["command: no JSON"]),
        (["dns", "127.0.0.1", "record=A", "answers=x"], ['"x" is no A record']),
    ],
)
def test_usage(capsys: pytest.CaptureFixture[str], words: list[str], parts: list[str]) -> None:
    assert main(["probe", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("hawatch probe: ")
    for part in parts:
        assert part in said.err


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["dns", "exec", "http", "ping", "pop3", "smtp", "tcp", "udp"]


@pytest.mark.parametrize("probe_type", ["dns", "exec", "http", "ping", "pop3", "smtp", "tcp", "udp"])
def test_help_of_a_probe(capsys: pytest.CaptureFixture[str], probe_type: str) -> None:
    assert main(["probe", probe_type, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: hawatch probe {probe_type} ADDRESS")
    assert "options:" in said


# --- An outsider's package -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package, installed where only PYTHONPATH finds it."""
    directory = tmp_path_factory.mktemp("plugin")
    source, target = directory / "source", directory / "site"
    shutil.copytree(EXAMPLE, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True, cwd=directory)
    return target


async def hawatch(installed: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    return await trio.run_process(
        [sys.executable, "-m", "hawatch.cli.main", "probe", *words],
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )


@pytest.mark.slow
async def test_probe_of_an_outsider(installed: Path) -> None:
    listed = await hawatch(installed, "--list")
    assert b"redis    PING must be answered by PONG" in listed.stdout
    assert b"(from hawatch-redis)" in listed.stdout
    info = b"$30\r\n# Replication\r\nrole:slave\r\n\r\n"
    async with tcp_server(script(None, b"+PONG\r\n", None, info)) as port:
        up = await hawatch(installed, "redis", f"127.0.0.1:{port}", "role=slave")
        assert (up.returncode, up.stderr) == (0, b"")
        down = await hawatch(installed, "redis", f"127.0.0.1:{port}", "role=master")
        assert down.returncode == 1
        assert down.stdout.endswith(b": role is slave, wanted master\n")
    async with tcp_server(SMTP) as port:
        wrong = await hawatch(installed, "redis", f"127.0.0.1:{port}")
        assert wrong.stdout.rstrip().endswith(b'wanted "+PONG"')
    usage = await hawatch(installed, "redis", "127.0.0.1", "rôle=x")
    assert usage.returncode == 2
    assert "accepted: role" in usage.stderr.decode()
