"""Files that only their owner may read."""

from __future__ import annotations

import os
import pwd
import tempfile
from pathlib import Path

import pytest

from hawatch.config import files
from hawatch.config.files import check_files, check_group
from hawatch.config.load import load_text
from tests.unit.config.fakes import FAKES, PAIR


def findings_of(path):
    config = load_text(PAIR.replace("/etc/hawatch/cluster.key", str(path)), probes=FAKES)
    return check_files(config)


def test_a_good_key_file(tmp_path):
    path = tmp_path / "key"
    path.touch(mode=0o600)
    assert findings_of(path) == ()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_others_may_not_read_it(tmp_path, mode):
    path = tmp_path / "key"
    path.touch()
    path.chmod(mode)
    (found,) = findings_of(path)
    assert not found.absent
    assert found.finding.path == ("cluster", "key_file")
    assert found.finding.found == f"mode {mode:04o}"


def test_an_absent_file_is_told_apart(tmp_path):
    (found,) = findings_of(tmp_path / "none")
    assert found.absent
    assert "hawatch keygen" in found.finding.message


def test_a_directory_is_no_key(tmp_path):
    (found,) = findings_of(tmp_path)
    assert "no regular file" in found.finding.message


def test_another_user_s_file(tmp_path):
    path = tmp_path / "key"
    path.touch(mode=0o600)
    os.chown(path, 12345, 0)
    (found,) = findings_of(path)
    assert found.finding.found == "owner 12345"


def test_a_group_of_users_that_is_not_there():
    assert check_group(load_text("")) == check_group(load_text('[control]\ngroup = "daemon"\n')) == ()
    (found,) = check_group(load_text('[control]\ngroup = "nobody-of-that-name"\n'))
    assert found.absent
    assert found.finding.path == ("control", "group")


def test_root_may_check_what_is_the_agent_s(tmp_path, monkeypatch):
    """The units run as their own user, whose files an administrator checks as root."""
    path = tmp_path / "key"
    path.touch(mode=0o600)
    daemon = pwd.getpwnam("daemon")
    os.chown(path, daemon.pw_uid, 0)
    assert findings_of(path) != ()
    monkeypatch.setattr(files, "AGENT_USER", "daemon")
    assert findings_of(path) == ()


def mail_findings(path):
    mail = f'[alert.email.ops]\nto = "a@b.c"\nfrom = "a@b.c"\nserver = "m:25"\ntemplate = "{path}"\n'
    mail += f'digest_template = "{path}"\n'
    key = os.path.join(os.path.dirname(path), "key")
    open(key, "w", opener=lambda name, flags: os.open(name, flags, 0o600)).close()
    return check_files(load_text(PAIR.replace("/etc/hawatch/cluster.key", key) + mail, probes=FAKES))


def test_templates(tmp_path):
    path = tmp_path / "mail"
    path.write_text("$what on $node\n")
    assert mail_findings(path) == ()
    path.write_text("$what\n$reason\n")
    (found,) = mail_findings(path)
    assert found.finding.path == ("alert", "email", "ops", "digest_template")
    assert 'line 2: there is no "$reason"' in found.finding.message
    assert "$lines" in found.finding.accepted
    path.unlink()
    assert [each.absent for each in mail_findings(path)] == [True, True]


def test_a_file_of_roots_is_of_no_use_to_an_agent_that_is_not_root():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "key")
        path.touch(mode=0o600)
        assert findings_of(path) == ()
        os.seteuid(65534)
        try:
            (found,) = findings_of(path)
        finally:
            os.seteuid(0)
    assert found.absent
    assert "cannot be read by user 65534" in found.finding.message
