"""`hawatch keygen`: makes a key file, and changes keys in three steps without a pause."""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path

from hawatch.cluster import keys
from hawatch.errors import ConfigError, RefusedError

MODE = 0o600


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hawatch keygen`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the key file")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--add", action="store_true", help="add a key, to be activated when every node has it")
    what.add_argument("--activate", type=int, metavar="N", help="use key N from now on")
    what.add_argument("--remove", type=int, metavar="N", help="forget key N")
    parser.epilog = (
        "To change the key: add one, copy the file to every node and reload; activate it and do the same; remove the "
        "old one and do the same. At each moment every node knows the key that every other node uses."
    )


def run(arguments: argparse.Namespace) -> int:
    """Make or change the file; an existing file is never overwritten by a new one."""
    path: Path = arguments.file
    if not (arguments.add or arguments.activate is not None or arguments.remove is not None):
        make(path)
        print(f"{path}: made, with key 1 active; copy it to every node, mode 0600")
        return 0
    ring = read(path)
    if arguments.add:
        ring, number = keys.added(ring, secrets.token_bytes(keys.KEY_BYTES))
        done = f"key {number} added; key {ring.active} is still the active one"
    elif arguments.activate is not None:
        ring = keys.activated(ring, arguments.activate)
        done = f"key {ring.active} is active now"
    else:
        ring = keys.removed(ring, arguments.remove)
        done = f"key {arguments.remove} removed"
    replace(path, keys.serialise(ring))
    print(f"{path}: {done}; copy the file to every node and reload there: `hawatch ctl reload`, or on a witness SIGHUP")
    return 0


def make(path: Path) -> None:
    """Make a file with one key; raise RefusedError if it is there or cannot be made."""
    ring = keys.KeyRing({1: secrets.token_bytes(keys.KEY_BYTES)}, 1)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    except FileExistsError as error:
        raise RefusedError(f"{path} exists: --add adds a key to it; a new file would cut this node off") from error
    except OSError as error:
        raise RefusedError(f"{path} cannot be made: {error.strerror}") from error
    write(descriptor, keys.serialise(ring))


def read(path: Path) -> keys.KeyRing:
    """Return the keys in a file; raise ConfigError."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return keys.parse(text, str(path))


def replace(path: Path, text: str) -> None:
    """Write a file so that it is there whole, or as it was, and belongs to whom it belonged."""
    scratch = path.with_name(path.name + ".new")
    try:
        before = path.stat()
        scratch.unlink(missing_ok=True)
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
        os.fchmod(descriptor, before.st_mode & 0o7777)
        if os.geteuid() == 0:
            os.fchown(descriptor, before.st_uid, before.st_gid)
        write(descriptor, text)
        scratch.replace(path)
    except OSError as error:
        raise RefusedError(f"{path} cannot be changed: {error.strerror}; it is as it was") from error


def write(descriptor: int, text: str) -> None:
    """Write all of a new file to the disk."""
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
