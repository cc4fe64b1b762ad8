"""Key files: what is accepted, what is refused and in which words, and a rotation in three steps."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hawatch.cluster.keys import (
    FILE_BYTES_MAX,
    KEY_BYTES,
    KEY_NUMBER_MAX,
    KEYS_MAX,
    KeyRing,
    activated,
    added,
    parse,
    removed,
    serialise,
)
from hawatch.errors import ConfigError

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
RINGS = st.dictionaries(
    st.integers(1, KEY_NUMBER_MAX), st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES), min_size=1, max_size=KEYS_MAX
).filter(lambda keys: len(set(keys.values())) == len(keys))


@given(RINGS, st.data())
def test_what_is_written_is_read_back(keys, data):
    ring = KeyRing(dict(sorted(keys.items())), data.draw(st.sampled_from(sorted(keys))))
    assert parse(serialise(ring)) == ring


def test_hexadecimal_base64_comments_and_spaces():
    text = f"# keys\n  # more\n\n 1={ONE.hex()}\n  2 = {base64.b64encode(TWO).decode()}  \nactive= 2\n"
    assert parse(text) == KeyRing({1: ONE, 2: TWO}, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no key", "keygen"]),
        (f"1 = {ONE.hex()}", ["no `active = NUMBER`"]),
        (f"1 = {ONE.hex()}\nactive = 2", ["key 2 is active", "there are: 1"]),
        (f"1 = {ONE.hex()}\n1 = {TWO.hex()}\nactive = 1", ["line 2", "twice"]),
        (f"1 = {ONE.hex()}\n2 = {ONE.hex()}\nactive = 1", ["same key"]),
        ("active = 1\nactive = 1", ["line 2", "second"]),
        ("hello", ["line 1", "NUMBER = KEY"]),
        (f"256 = {ONE.hex()}", ["line 1", "1 to 255"]),
        (f"0 = {ONE.hex()}", ["1 to 255"]),
        (f"١ = {ONE.hex()}", ["1 to 255"]),
        ("active = one", ["line 1", "'one'", "1 to 255"]),
        ("0000001 = 0", ["'0000001'", "1 to 255"]),
        ("123456789 = 0", ["a text of 9 characters", "1 to 255"]),
        ("1 = abcd", ["3 bytes", "32"]),
        ("1 = " + "zz" * 32, ["hexadecimal or base64"]),
        ("1 = !", ["hexadecimal or base64"]),
        (f"# keys\n\nactive = 1\n 1 = {ONE.hex()}0", ["line 4", "hexadecimal or base64"]),
        (f"3 = {ONE.hex()}\n1 = {TWO.hex()}\nactive = 2", ["there are: 1, 3"]),
        ("#" * (FILE_BYTES_MAX + 1), ["more than 16384 bytes", "at most 16 keys"]),
        ("#" * FILE_BYTES_MAX, ["no key"]),
        (
            "".join(f"{n} = {bytes([n] * 32).hex()}\n" for n in range(1, KEYS_MAX + 2)) + "active = 1",
            ["17 keys; at most 16"],
        ),
        ("12345678 = 0", ["'12345678'", "1 to 255"]),
        ("0001 = 0", ["'0001'", "1 to 255"]),
    ],
)
def test_a_bad_file_is_refused_with_what_and_where(text, words):
    with pytest.raises(ConfigError) as caught:
        parse(text, "the file")
    assert str(caught.value).startswith("the file")
    for word in words:
        assert word in str(caught.value)


def test_as_many_keys_as_there_may_be():
    keys = {number: bytes([number]) * 32 for number in (*range(1, KEYS_MAX), KEY_NUMBER_MAX)}
    ring = KeyRing(keys, KEY_NUMBER_MAX)
    assert parse(serialise(ring)) == ring


def test_what_is_written_begins_with_what_to_do_with_it_and_is_in_order():
    assert serialise(KeyRing({9: TWO, 1: ONE}, 9)).splitlines() == [
        "# Keys of a hawatch cluster. Keep this file secret: mode 0600, the same on every node.",
        "active = 9",
        f"1 = {ONE.hex()}",
        f"9 = {TWO.hex()}",
    ]


def test_no_key_is_ever_repeated_in_words():
    secret = ONE.hex()[:-1]
    with pytest.raises(ConfigError) as caught:
        parse(f"1 = {secret}")
    assert secret[:8] not in str(caught.value)
    in_base64 = base64.b64encode(ONE).decode()
    for misplaced in (in_base64, f"{in_base64} = 1", f"{ONE.hex()} = 1", f"active = {ONE.hex()}", ONE.hex()):
        with pytest.raises(ConfigError) as caught:
            parse(misplaced)
        assert in_base64[:6] not in str(caught.value)
        assert ONE.hex()[:6] not in str(caught.value)
    assert repr(KeyRing({2: ONE, 1: TWO}, 2)) == "KeyRing(numbers=[1, 2], active=2)"


@given(st.text(max_size=200))
def test_any_text_gives_a_ring_or_a_config_error(text):
    try:
        ring = parse(text)
    except ConfigError:
        return
    assert ring.active in ring.keys


def test_a_rotation():
    ring, number = added(KeyRing({1: ONE}, 1), TWO)
    assert (number, ring.active) == (2, 1)
    ring = activated(ring, 2)
    assert ring.active == 2
    assert ring.keys == {1: ONE, 2: TWO}
    assert removed(ring, 1) == KeyRing({2: TWO}, 2)


def test_numbers_begin_again_after_the_last():
    ring, number = added(KeyRing({1: ONE, KEY_NUMBER_MAX: TWO}, 1), bytes(32))
    assert number == 2
    assert set(ring.keys) == {1, 2, KEY_NUMBER_MAX}
    for present, wanted in ((KEY_NUMBER_MAX - 1, KEY_NUMBER_MAX), (KEY_NUMBER_MAX, 1), (1, 2), (7, 8)):
        ring, number = added(KeyRing({present: ONE}, present), TWO)
        assert (number, ring.keys[number], ring.active) == (wanted, TWO, present)


def test_a_number_that_was_used_is_not_used_again_soon():
    assert added(KeyRing({1: ONE, 3: TWO}, 3), bytes(32))[1] == 4


def test_the_last_key_that_there_is_room_for():
    ring, number = added(KeyRing({n: bytes([n] * 32) for n in range(1, KEYS_MAX)}, 1), bytes(32))
    assert (number, len(ring.keys)) == (KEYS_MAX, KEYS_MAX)


def test_what_a_rotation_refuses():
    ring = KeyRing({1: ONE, 2: TWO}, 1)
    with pytest.raises(ConfigError, match="not in the file; there are: 1, 2"):
        activated(ring, 3)
    with pytest.raises(ConfigError, match="not in the file"):
        removed(ring, 3)
    with pytest.raises(ConfigError, match=r"^key 3 is not in the file; there are: 1, 2$"):
        removed(KeyRing({2: TWO, 1: ONE}, 1), 3)
    with pytest.raises(ConfigError, match="activate another"):
        removed(ring, 1)
    full = KeyRing({n: bytes([n] * 32) for n in range(1, KEYS_MAX + 1)}, 1)
    with pytest.raises(ConfigError, match=r"^key 3 is not in the file; there are: 1, 2$"):
        activated(KeyRing({2: TWO, 1: ONE}, 1), 3)
    with pytest.raises(ConfigError, match=r"^16 keys are in the file, .*: remove old ones first$"):
        added(full, ONE)


class Rotation(RuleBasedStateMachine):
    """Three nodes whose files an administrator changes in three steps, each node of each step when he comes to it."""

    def __init__(self) -> None:
        super().__init__()
        self.rings = [KeyRing({1: ONE}, 1)] * 3
        self.made = 1
        self.step = 0
        self.left: set[int] = set()
        self.number = 0

    @rule(node=st.integers(0, 2))
    def change_a_file(self, node):
        """Take the present step on one node; the next step begins when every node has taken this one."""
        if not self.left:
            self.step, self.left = self.step % 3 + 1, {0, 1, 2}
        if node not in self.left:
            return
        self.left.discard(node)
        ring = self.rings[node]
        if self.step == 1:
            key = bytes([self.made % 256]) * KEY_BYTES
            self.rings[node], number = added(ring, key)
            assert self.number in (0, number) or len(self.left) == 2, "the same number everywhere"
            self.number = number
            self.made += not self.left
        elif self.step == 2:
            self.rings[node] = activated(ring, self.number)
        else:
            self.rings[node] = removed(ring, next(number for number in ring.keys if number != self.number))

    @invariant()
    def everybody_has_the_key_that_each_uses(self):
        for one in self.rings:
            for other in self.rings:
                assert other.keys.get(one.active) == one.keys[one.active]
            assert parse(serialise(one)) == one


TestRotation = Rotation.TestCase
TestRotation.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)
