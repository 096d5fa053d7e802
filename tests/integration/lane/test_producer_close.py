"""A producer that cannot close in order leaves nothing behind: no task, and no error that nobody asked for."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from pointsman.streams import producer as producers
from pointsman.streams.output import Output
from tests.support.kafka import KafkaServer


def tasks_of_the_client() -> list[str]:
    return [text for task in asyncio.all_tasks() if "aiokafka" in (text := repr(task))]


@pytest.mark.parametrize("harm", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_producer_whose_broker_is_gone_ends_with_all_its_tasks(
    own_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch, harm: signal.Signals
) -> None:
    monkeypatch.setattr(producers, "CLOSE_S", 0.5)
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context))
    topic = await asyncio.to_thread(own_kafka.create_topic, "t", 1)
    producer = AIOKafkaProducer(
        bootstrap_servers=own_kafka.bootstrap, transactional_id="x", acks="all", request_timeout_ms=30_000
    )
    await producer.start()
    await producer.begin_transaction()
    output = Output()
    output.add(topic, 0, [(b"k", b"v", [])])
    pid = own_kafka.pid
    try:
        os.kill(pid, harm)
        await producers.send(producer, output.messages)
        await producers.close(producer)
        assert tasks_of_the_client() == []
    finally:
        if harm == signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
    del producer
    gc.collect()
    await asyncio.sleep(0)
    assert said == []
