"""Alert programs under mon's protocol, with mon's own."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from hawatch.actions.outgoing import SendError
from hawatch.actions.program import kind_of, make_arguments, make_environment, run_alert
from tests.unit.actions.test_outgoing import DOWN, UP, outgoing

MON = "/usr/lib/mon/alert.d"


def test_arguments_as_mon_gives_them():
    assert make_arguments(outgoing(), ["/x", "-f", "me"], 600) == [
        "/x", "-s", "http", "-g", "web", "-h", "192.168.1.1:80", "-t", "1767225660", "-l", "600", "-f", "me",
    ]  # fmt: skip
    assert make_arguments(outgoing(UP), ["/x"])[-1] == "-u"


async def test_a_digest_of_thousands_fits(tmp_path):
    many = [replace(DOWN, server=f"[2001:db8::{number:x}]:443") for number in range(5000)]
    said = await run_alert(outgoing(*many), [program(tmp_path, 'echo "${#6}"')], 10)
    assert 20_000 < int(said) <= 65536


def test_environment():
    environment = make_environment(outgoing())
    assert environment["MON_ALERTTYPE"] == "failure"
    assert environment["MON_OPSTATUS"] == "0"
    assert environment["MON_FIRST_FAILURE"] == "1767225600"
    assert make_environment(outgoing(UP))["MON_OPSTATUS"] == "1"
    assert kind_of(outgoing(DOWN, UP)) == "failure"
    assert kind_of(outgoing(test=True)) == "test"


async def test_file_alert_of_mon(tmp_path):
    file = tmp_path / "log"
    await run_alert(outgoing(), [f"{MON}/file.alert", str(file)], 10)
    await run_alert(outgoing(UP), [f"{MON}/file.alert", str(file)], 10)
    text = file.read_text()
    assert text.startswith("failure web http 1767225660")
    assert "HTTP 503, wanted 200" in text
    assert "OPSTATUS=0" in text
    assert "\nup web http" in text
    assert "It is down." in text


async def test_mail_alert_of_mon(tmp_path):
    """Its sendmail is one that writes down what it is given, in a name space of the program's own."""
    sendmail, out = tmp_path / "sendmail", tmp_path / "mail"
    sendmail.write_text(f"#!/bin/sh\ncat > {out}\n")
    sendmail.chmod(0o755)
    target = os.path.realpath("/usr/lib/sendmail")
    script = tmp_path / "mail.alert"
    script.write_text(f'#!/bin/sh\nmount --bind {sendmail} {target}\nexec {MON}/mail.alert "$@"\n')
    script.chmod(0o755)
    outer = tmp_path / "outer"
    outer.write_text(f'#!/bin/sh\nexec unshare -m {script} "$@"\n')
    outer.chmod(0o755)
    await run_alert(outgoing(UP), [str(outer), "ops@example.org"], 10)
    mail = out.read_text()
    assert "To: ops@example.org" in mail
    assert "Subject: UPALERT web/http: [epn] http" in mail
    assert "It is down." in mail


def program(directory, text):
    path = Path(directory) / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


async def test_a_program_that_fails(tmp_path):
    with pytest.raises(SendError, match="status 3: no such pager"):
        await run_alert(outgoing(), [program(tmp_path, "echo no such pager; exit 3")], 10)


async def test_a_program_that_is_not_there():
    with pytest.raises(SendError, match="No such file"):
        await run_alert(outgoing(), ["/none"], 10)


async def test_a_program_that_hangs_is_killed_with_its_children(tmp_path):
    file = tmp_path / "pid"
    with pytest.raises(SendError, match="was killed") as caught:
        await run_alert(outgoing(), [program(tmp_path, f"sleep 1000 & echo $! > {file}; wait")], 0.5)
    assert caught.value.perhaps_taken
    with trio.fail_after(5):
        while True:
            state = Path(f"/proc/{file.read_text().strip()}/stat")
            if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
                break
            await trio.sleep(0.01)


async def test_a_program_that_does_not_read_and_one_that_talks(tmp_path):
    big = outgoing(body="x" * 200_000)
    assert await run_alert(big, [program(tmp_path, "exec true")], 10) == ""
    assert len(await run_alert(big, [program(tmp_path, "head -c 1000000 /dev/zero | tr '\\0' y")], 10)) <= 160
