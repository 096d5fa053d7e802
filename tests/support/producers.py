"""A `Producer` with defaults for all that a test does not speak of, and an admin client that may ask about groups."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from pointsman.streams.membership import Member
from pointsman.streams.producer import Producer
from pointsman.streams.settings import Settings

NOBODY = Member("", -1)
"""Of no group: the coordinator looks at neither."""


def producer(
    servers: str = "127.0.0.1:1",
    transactional_id: str = "t",
    group: str = "g",
    member: Member = NOBODY,
    settings: Settings | None = None,
) -> Producer:
    return Producer(
        servers=servers,
        group=group,
        transactional_id=transactional_id,
        settings=settings or Settings(),
        member=member,
    )


@contextlib.asynccontextmanager
async def asking(servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client of a broker that knows coordinators by now."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        while True:  # the first question about a group makes a new broker create the topic for it
            with contextlib.suppress(GroupCoordinatorNotAvailableError):
                await admin.find_coordinator("any")
                break
            await asyncio.sleep(0.05)
        yield admin
    finally:
        await admin.close()
