from __future__ import annotations

import msgspec
import pytest

from hawatch.decoding import UNDECODABLE


@pytest.mark.parametrize("data", [b"", b"{", b'{"a\xff": 1}', b'["\xff"]', b"[" * 100_000, b'{"a":' * 100_000])
def test_bytes_that_are_no_json(data: bytes) -> None:
    with pytest.raises(UNDECODABLE):
        msgspec.json.decode(data)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\xa1\xff", b"\x81\xa1\xff\x01", b"\x91" * 100_000])
def test_bytes_that_are_no_msgpack(data: bytes) -> None:
    with pytest.raises(UNDECODABLE):
        msgspec.msgpack.decode(data)
