"""Cluster keys: several numbered keys, one of them active.

Theory of operation: every node accepts datagrams made with any key in its file, and makes its own with the active
one. A key is changed without a pause in three steps: add the new key everywhere, activate it everywhere, remove
the old one everywhere. At each moment every node knows the key that every other node uses.

The file is text: blank lines and lines that begin with # are skipped; the others are `NUMBER = KEY` with a key of
32 bytes in hexadecimal or base64, and one line `active = NUMBER`.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from hawatch.errors import ConfigError

KEY_BYTES = 32
KEY_NUMBER_MAX = 255
KEYS_MAX = 16
"""More keys than a rotation ever needs: a file with more is a mistake."""
FILE_BYTES_MAX = 16_384
SHOWN_MAX = 8
"""Characters that are shown of what is no key number: more could be a key in the wrong place."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys a node accepts, and the number of the one it uses."""

    keys: Mapping[int, bytes]
    active: int

    def __post_init__(self) -> None:
        assert self.active in self.keys, self.active
        assert all(len(key) == KEY_BYTES for key in self.keys.values())

    def __repr__(self) -> str:
        return f"KeyRing(numbers={sorted(self.keys)}, active={self.active})"


def parse(text: str, path: str = "key file") -> KeyRing:
    """Return the keys of a key file's text; raise ConfigError naming the line and what is accepted."""
    if len(text) > FILE_BYTES_MAX:
        raise ConfigError(f"{path}: more than {FILE_BYTES_MAX} bytes; a key file holds at most {KEYS_MAX} keys")
    keys: dict[int, bytes] = {}
    active = 0
    for line_number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        where = f"{path} line {line_number}"
        name, separator, value = (part.strip() for part in stripped.partition("="))
        if not separator:
            raise ConfigError(f"{where}: wanted `NUMBER = KEY` or `active = NUMBER`")
        if name == "active":
            if active:
                raise ConfigError(f"{where}: a second `active`")
            active = parse_number(value, where)
            continue
        number = parse_number(name, where)
        if number in keys:
            raise ConfigError(f"{where}: key {number} is there twice")
        keys[number] = parse_key(value, where)
    return checked_ring(keys, active, path)


def checked_ring(keys: dict[int, bytes], active: int, path: str) -> KeyRing:
    """Return the ring if it is complete; raise ConfigError saying what is missing."""
    if not keys:
        raise ConfigError(f"{path}: no key in it; `hawatch keygen` makes one")
    if len(keys) > KEYS_MAX:
        raise ConfigError(f"{path}: {len(keys)} keys; at most {KEYS_MAX}")
    if len(set(keys.values())) != len(keys):
        raise ConfigError(f"{path}: the same key under two numbers")
    if not active:
        raise ConfigError(f"{path}: no `active = NUMBER` line")
    if active not in keys:
        numbers = ", ".join(str(number) for number in sorted(keys))
        raise ConfigError(f"{path}: key {active} is active but not in the file; there are: {numbers}")
    return KeyRing(dict(sorted(keys.items())), active)


def parse_number(text: str, where: str) -> int:
    """Return a key number; raise ConfigError for anything but 1 to 255, without a text that may be a key."""
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= KEY_NUMBER_MAX):
        what = repr(text) if len(text) <= SHOWN_MAX else f"a text of {len(text)} characters"
        raise ConfigError(f"{where}: {what} is not a key number from 1 to {KEY_NUMBER_MAX}")
    return int(text)


def parse_key(text: str, where: str) -> bytes:
    """Return 32 bytes written in hexadecimal or base64; never repeats the text in the error."""
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise ConfigError(f"{where}: not a key in hexadecimal or base64") from error
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{where}: the key has {len(key)} bytes; wanted {KEY_BYTES}")
    return key


def serialise(ring: KeyRing) -> str:
    """Return a key file's text."""
    lines = [
        "# Keys of a hawatch cluster. Keep this file secret: mode 0600, the same on every node.",
        f"active = {ring.active}",
    ]
    lines += [f"{number} = {key.hex()}" for number, key in sorted(ring.keys.items())]
    text = "\n".join(lines) + "\n"
    assert parse(text) == ring
    assert len(text) <= FILE_BYTES_MAX
    return text


def added(ring: KeyRing, key: bytes) -> tuple[KeyRing, int]:
    """Return the ring with one more key, not active yet, and its number; raise ConfigError when it is full."""
    assert len(key) == KEY_BYTES
    if len(ring.keys) >= KEYS_MAX:
        raise ConfigError(f"{len(ring.keys)} keys are in the file, the most there may be: remove old ones first")
    number = next(
        n
        for n in range(max(ring.keys) + 1, max(ring.keys) + 1 + KEY_NUMBER_MAX)
        if (n - 1) % KEY_NUMBER_MAX + 1 not in ring.keys
    )
    number = (number - 1) % KEY_NUMBER_MAX + 1
    return KeyRing({**ring.keys, number: key}, ring.active), number


def activated(ring: KeyRing, number: int) -> KeyRing:
    """Return the ring with another key active; raise ConfigError when it isn't there."""
    if number not in ring.keys:
        raise ConfigError(f"key {number} is not in the file; there are: {', '.join(map(str, sorted(ring.keys)))}")
    return KeyRing(ring.keys, number)


def removed(ring: KeyRing, number: int) -> KeyRing:
    """Return the ring without a key; raise ConfigError for the active one or one that isn't there."""
    if number not in ring.keys:
        raise ConfigError(f"key {number} is not in the file; there are: {', '.join(map(str, sorted(ring.keys)))}")
    if number == ring.active:
        raise ConfigError(f"key {number} is active: activate another one before it is removed")
    return KeyRing({other: key for other, key in ring.keys.items() if other != number}, ring.active)
