"""What is announced is named to the broker before the messages, and a failure on the way is raised, not waited for."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import ConcurrentTransactions, KafkaError, ProducerFenced
from aiokafka.producer.sender import AddPartitionsToTxnHandler

from pointsman.streams.transactions import AGAIN_S, Transactions

ONE, TWO = TopicPartition("t", 0), TopicPartition("u", 0)


async def begun() -> Transactions:
    made = Transactions("x", 1_000, "g")
    made.set_pid_and_epoch(1, 0)
    made.begin_transaction()
    return made


async def test_it_takes_the_place_of_the_clients_own_everywhere() -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers="127.0.0.1:1", transactional_id="x", transaction_timeout_ms=7
    )
    made = Transactions.install(producer, "g")
    assert (
        producer._txn_manager
        is producer._sender._txn_manager
        is producer._message_accumulator._txn_manager
        is made
    )
    assert (made.transactional_id, made.transaction_timeout_ms) == ("x", 7)


async def test_while_the_last_one_still_ends_it_asks_again_soon() -> None:
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", transactional_id="x")
    Transactions.install(producer, "g")
    refused = SimpleNamespace(errors=[("t", [(0, ConcurrentTransactions.errno)])])
    wait_s = AddPartitionsToTxnHandler(producer._sender, [ONE]).handle_response(refused)
    assert wait_s == AGAIN_S


async def test_the_group_is_named_after_the_partitions_and_without_offsets() -> None:
    made = await begun()
    assert made.consumer_group_to_add() is None, "nothing was announced"
    made.announce([ONE, TWO])
    assert made.partitions_to_add() == {ONE, TWO}
    assert made.consumer_group_to_add() == "g"
    waiting = asyncio.create_task(made.named())
    for step in (lambda: made.partition_added(ONE), lambda: made.partition_added(TWO)):
        step()
        await asyncio.sleep(0)
        assert not waiting.done()
    made.consumer_group_added("g")
    await waiting
    assert made.consumer_group_to_add() is None
    await made.named()  # at once


async def test_what_is_announced_later_is_waited_for_too() -> None:
    made = await begun()
    made.announce([ONE])
    made.partition_added(ONE)
    made.consumer_group_added("g")
    made.announce([ONE, TWO])
    assert made.partitions_to_add() == {TWO}, "the other one is known"
    waiting = asyncio.create_task(made.named())
    await asyncio.sleep(0)
    assert not waiting.done()
    made.partition_added(TWO)
    await waiting


async def test_a_failure_is_raised_to_who_waits_and_to_who_comes_later() -> None:
    made = await begun()
    made.announce([ONE])
    waiting = asyncio.create_task(made.named())
    await asyncio.sleep(0)
    made.fatal_error(ProducerFenced())
    with pytest.raises(ProducerFenced):
        await waiting
    assert made.begun, "nobody must begin another one with it"
    with pytest.raises(ProducerFenced):
        made.announce([TWO])
    with pytest.raises(ProducerFenced):
        await made.named()


async def test_an_end_makes_room_for_the_next() -> None:
    made = await begun()
    made.announce([ONE])
    made.partition_added(ONE)
    made.consumer_group_added("g")
    made.committing_transaction()
    assert made.consumer_group_to_add() is None, "it is known"
    made.complete_transaction()
    assert not made.begun
    made.begin_transaction()
    assert made.consumer_group_to_add() is None
    made.announce([])
    assert made.consumer_group_to_add() == "g"


async def test_nobody_is_missed_who_asks_for_the_end_of_one_that_failed_twice() -> None:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context))
    made = await begun()
    made.announce([ONE])
    for _ in range(2):
        made.fatal_error(KafkaError("fenced"))
    await asyncio.sleep(0)
    del made
    gc.collect()
    assert said == []
