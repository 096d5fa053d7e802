"""What lies beside the committed offsets."""

from __future__ import annotations

from pointsman.streams.decisions.tally import Metadata, decode_metadata, encode_metadata


def test_metadata_always_fits_and_keeps_what_fits() -> None:
    even_ = {f"agent-{n}-{'x' * (n % 50)}": (n, 10**9) for n in range(200)}
    text = encode_metadata(Metadata(even=even_, token=5))
    assert len(text) <= 4_000
    found = decode_metadata(text)
    assert found.token == 5
    assert len(found.even) > 50
    assert found.even.items() <= even_.items()
    assert decode_metadata("") == decode_metadata("another's") == decode_metadata('{"even": 5}') == Metadata()
