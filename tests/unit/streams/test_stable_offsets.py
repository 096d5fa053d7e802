"""Offsets are asked for again while the broker cannot say them yet, and for nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, GroupLoadInProgressError

from pointsman.streams import membership
from pointsman.streams.membership import UNSTABLE, stable_offsets

TP = TopicPartition("requests", 3)
LOADING = GroupLoadInProgressError.errno


class Admin:
    """A coordinator that answers with these codes, one after the other: of the whole, and of the partition."""

    def __init__(self, *codes: tuple[int, int]) -> None:
        self._codes = list(codes)

    async def find_coordinator(self, _group: str) -> int:
        return 1

    async def _send_request(self, _request: Any, _node: int) -> Any:
        whole, of_partition = self._codes.pop(0)
        topics = [] if whole else [("requests", [(3, 7, 0, "m", of_partition, None)], None)]
        return SimpleNamespace(error_code=whole, topics=topics)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "AGAIN_S", (0.0,))


async def asked(*codes: tuple[int, int]) -> int:
    admin: Any = Admin(*codes)
    found = await stable_offsets(admin, "g", [TP])
    assert admin._codes == []
    return int(found[TP].offset)


@pytest.mark.parametrize("code", [(LOADING, 0), (0, LOADING), (0, UNSTABLE)])
async def test_what_passes_is_waited_for(code: tuple[int, int]) -> None:
    assert await asked(code, (LOADING, 0), (0, UNSTABLE), (0, 0)) == 7


async def test_what_does_not_pass_is_raised() -> None:
    with pytest.raises(GroupAuthorizationFailedError):
        await asked((0, UNSTABLE), (GroupAuthorizationFailedError.errno, 0))
