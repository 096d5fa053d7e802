"""The kept inputs: ``tests/corpus/<decoder>/<what>.bin``, replayed by every run and changed by the fuzzer."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).parents[1] / "corpus"


def kept(decoder: str) -> dict[str, bytes]:
    """Name to content of a decoder's inputs, by name."""
    return {path.stem: path.read_bytes() for path in sorted((CORPUS / decoder).glob("*.bin"))}


def keep(decoder: str, value: bytes, folder: Path = CORPUS) -> Path:
    """Write a find; named by its hash until somebody who understood it gives it a better name."""
    path = folder / decoder / f"found-{sha256(value).hexdigest()[:12]}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(value)
    return path
