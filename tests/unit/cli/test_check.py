"""`hawatch check` tells every mistake with its line, or what the file amounts to."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hawatch.cli.check import as_json, as_lines, examine
from hawatch.cli.main import main
from tests.unit.config.fakes import FAKES, SITE


@pytest.fixture
def write(tmp_path):
    def write_text(text):
        key = tmp_path / "key"
        key.touch(mode=0o600)
        path = tmp_path / "hawatch.toml"
        path.write_text(text.replace("/etc/hawatch/cluster.key", str(key)))
        return path

    return write_text


def test_a_valid_file(write):
    path = write(SITE)
    report = examine(path, "", FAKES)
    assert report.ok
    assert list(as_lines(report)) == [
        f"{path}: valid; 2 directors, 1 witness, 1 group, 1 address, 1 service, 1 server, 1 check (0.5/s)"
    ]


def test_mistakes(write):
    path = write(SITE.replace("port = 80", "prot = 80"))
    lines = list(as_lines(examine(path, "", FAKES)))
    assert lines[0].startswith(
        f'{path}:20: service[1] "http".prot: unknown key; did you mean "port"?; found 80; accepted:'
    )
    assert lines[1:] == [f"{path}: 1 mistake; nothing can be started with it"]


def test_a_group_of_users_that_is_not_here_is_a_warning(write):
    report = examine(write(SITE + '[control]\ngroup = "nobody-of-that-name"\n'), "", FAKES)
    assert report.ok
    assert [warning.path for warning in report.warnings] == ["control.group"]


def test_warnings_do_not_make_it_invalid(write):
    path = write(SITE + "weight = 0\n")
    report = examine(path, "", FAKES)
    assert report.ok
    assert next(iter(as_lines(report))).startswith(f'{path}:16: warning: service[1] "http": every server has weight 0')


def test_a_clock_that_may_stop_is_a_warning(write):
    path = write(SITE)
    report = examine(path, "", FAKES, "kvm-clock")
    assert report.ok
    assert next(iter(as_lines(report))).startswith(
        f"{path}:1: warning: cluster: this machine's clock is kvm-clock, which a hypervisor stops with the guest"
    )
    assert examine(path, "", FAKES, "tsc").warnings == ()


def test_json(write):
    shown = json.loads(json.dumps(as_json(examine(write(SITE.replace("port = 80", 'port = "x"')), "", FAKES))))
    assert shown["ok"] is False
    assert shown["problems"] == [
        {"path": 'service[1] "http".port', "line": 20, "found": '"x"', "accepted": "a whole number",
         "message": "not accepted", "column": 0},
    ]  # fmt: skip


def test_an_open_key_file_is_a_mistake(write, tmp_path):
    path = write(SITE)
    (tmp_path / "key").chmod(0o644)
    report = examine(path, "", FAKES)
    assert [(problem.path, problem.line, problem.found) for problem in report.problems] == [
        ("cluster.key_file", 2, "mode 0644")
    ]


def test_an_absent_key_file_is_a_warning(write, tmp_path):
    path = write(SITE)
    (tmp_path / "key").unlink()
    report = examine(path, "", FAKES)
    assert report.ok
    assert [warning.path for warning in report.warnings] == ["cluster.key_file"]


def test_an_unknown_node(write):
    report = examine(write(SITE), "lvs3", FAKES)
    assert not report.ok
    assert "there are: lvs1, lvs2, rs1" in report.problems[0].message


@pytest.mark.parametrize(
    ("text", "status", "stream"),
    [("", 0, "out"), ("x = 1\n", 2, "err"), ("x = \n", 2, "err")],
    ids=["ok", "key", "toml"],
)
def test_exit_status(write, capsys, text, status, stream):
    path = write(text)
    assert main(["check", "-c", str(path)]) == status
    captured = capsys.readouterr()
    assert str(path) in getattr(captured, stream)
    assert getattr(captured, "err" if stream == "out" else "out") == ""


def test_exit_status_with_json(write, capsys):
    assert main(["check", "--json", "-c", str(write("x = 1\n"))]) == 2
    assert json.loads(capsys.readouterr().out)["problems"][0]["path"] == "x"


def test_no_such_file(tmp_path, capsys):
    assert main(["check", "-c", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_the_configuration_imports_no_network_library():
    """Reading a file starts fast, and works on a machine that has none of them."""
    code = (
        "import sys, hawatch.config.load, hawatch.config.plan, hawatch.config.diff; "
        "print(*{'trio', 'httpx', 'dns', 'pyroute2', 'aiosmtplib', 'ssl', 'asyncio'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
