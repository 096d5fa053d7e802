"""Who may report violations proves it with the key that it shares with the deployment."""

import hashlib
import hmac

import pytest

from pointsman.schemas.signature import HEADER, sign, signed

KEY = "a key of this deployment"


def test_a_signature_is_what_any_other_program_makes_of_key_and_bytes() -> None:
    made = hmac.new(KEY.encode(), b'{"id":"1"}', hashlib.sha256).hexdigest()
    assert sign(KEY, b'{"id":"1"}') == b"sha256=" + made.encode()


# As RFC 4231, test case 2, has it.
def test_it_is_hmac_sha256() -> None:
    wanted = b"sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert sign("Jefe", b"what do ya want for nothing?") == wanted


def test_whoever_has_the_key_is_believed() -> None:
    headers = [("traceparent", b"x"), (HEADER, sign(KEY, b"value"))]
    assert signed(KEY, b"value", headers)


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (KEY, b"value", []),
        (KEY, b"value", [(HEADER, None)]),
        (KEY, b"value", [(HEADER, b"")]),
        (KEY, b"value", [(HEADER, b"sha256=")]),
        (KEY, b"value", [("signature", sign(KEY, b"value"))]),
        (KEY, b"value.", [(HEADER, sign(KEY, b"value"))]),
        ("another key than that", b"value", [(HEADER, sign(KEY, b"value"))]),
        (KEY, b"value", [(HEADER, sign(KEY, b"value").removeprefix(b"sha256="))]),
        (KEY, b"value", [(HEADER, b"\xff" * 71)]),
    ],
)
def test_nobody_else_is(key: str, value: bytes, headers: list[tuple[str, bytes | None]]) -> None:
    assert not signed(key, value, headers)
