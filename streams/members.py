"""Who is in consumer groups. The client's own question has the answer of another version, and cannot be read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupIdNotFound, for_code
from aiokafka.protocol.admin import DescribeGroupsRequest_v2
from aiokafka.protocol.api import Request


class _DescribeGroups(Request[DescribeGroupsRequest_v2]):  # type: ignore[misc]
    """In the last version whose answer the client knows."""

    API_KEY: ClassVar[int] = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[DescribeGroupsRequest_v2]) -> DescribeGroupsRequest_v2:
        return request_struct_class([self._group])


async def members(admin: AIOKafkaAdminClient, groups: Iterable[str]) -> list[str]:
    """Each member as a person may find it: group, client and host. Raises a `KafkaError` where the broker cannot say."""
    found = []
    for group in groups:
        node = await admin.find_coordinator(group)
        answer = await admin._send_request(_DescribeGroups(group), node)  # noqa: SLF001 - as for any request
        for code, _, _, _, _, each in answer.groups:
            if code not in (0, GroupIdNotFound.errno):
                raise for_code(code)(group)
            found += [f"{group}: {client} at {host.lstrip('/')}" for _, client, host, *_ in each]
    return found
