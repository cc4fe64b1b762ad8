"""Files that only their owner may read."""

from __future__ import annotations

import os

import pytest

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
