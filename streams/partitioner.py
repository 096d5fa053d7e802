"""Where a key lies: the partitioners of Kafka's clients, so that what is kept of a unit can be put where its records will be."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, TypeAlias

from aiokafka.partitioner import murmur2

Home: TypeAlias = Callable[[bytes, int], int]
"""A key's partition of so many."""


@lru_cache(65_536)
def by_murmur2(key: bytes, partitions: int) -> int:
    """The default of the Java client, of those made after it, and of Pointsman's own producers."""
    return int(murmur2(key) & 0x7FFF_FFFF) % partitions


def by_crc32(key: bytes, partitions: int) -> int:
    """What librdkafka does where its `partitioner` is not set."""
    return zlib.crc32(key) % partitions


PARTITIONERS: Final[Mapping[str, Home]] = {"murmur2": by_murmur2, "crc32": by_crc32}
DEFAULT: Final = "murmur2"
