"""`fence`: end whatever transactions were left open under these ids, and fence whoever left them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import chain, repeat
from typing import Final

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import ConcurrentTransactions, KafkaError, for_code
from aiokafka.protocol.transaction import InitProducerIdRequest

AGAIN_S: Final = (0.02, 0.05, 0.1, 0.25, 0.5)
"""While the broker still ends a transaction, or its coordinator loads; the last repeats."""


async def fence(client: AIOKafkaClient, ids: Iterable[str], timeout_ms: int) -> None:
    """What starting a producer of each id and closing it again would do.

    ``timeout_ms``: of the ids' transactions, as a producer of them would say it. Raises KafkaError where that would not
    help; else it tries again until it is cancelled, for a transaction ends once all that it wrote to are there.
    """
    tasks = [asyncio.ensure_future(_fence(client, each, timeout_ms)) for each in ids]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _fence(client: AIOKafkaClient, id_: str, timeout_ms: int) -> None:
    for wait in chain(AGAIN_S, repeat(AGAIN_S[-1])):
        try:
            node = await client.coordinator_lookup(CoordinationType.TRANSACTION, id_)
            if await client.ready(node, group=ConnectionGroup.COORDINATION):
                request = InitProducerIdRequest(transactional_id=id_, transaction_timeout_ms=timeout_ms)
                answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
                if not answer.error_code:
                    return
                raise for_code(answer.error_code)(id_)
        except ConcurrentTransactions:
            pass
        except KafkaError as error:
            if not error.retriable:
                raise
            await client.force_metadata_update()
        await asyncio.sleep(wait)
