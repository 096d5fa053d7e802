"""`ModelClient`: asks the model server, never waits beyond the deadline, and leaves a failing model alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isnan
from typing import Final

from pointsman.models.decider import Row
from pointsman.streams.model.address import Address
from pointsman.streams.model.breaker import Breaker, BreakerPolicy, State
from pointsman.streams.model.connection import Connection, connect
from pointsman.streams.model.failure import ModelFailure, Reason
from pointsman.streams.model.protocol import (
    Hello,
    Lane,
    ModelInfo,
    ProtocolError,
    Response,
    Status,
    encode_request,
)

__all__ = ["ModelClient", "ModelFailure", "Scores"]

logger = logging.getLogger(__name__)

HELLO_S: Final = 3.0
"""A server says hello as soon as it has accepted; only one that hangs, or a slow network, takes so long."""
RETRY_MIN_S: Final = 0.05
RETRY_MAX_S: Final = 2.0
"""A restarted server is found again within so long; a connection attempt costs next to nothing."""
RETRY_LOCAL_MAX_S: Final = 0.1
"""The same for a socket file, where an attempt is one failing system call: nobody's start waits for the next try."""
SETTLED_S: Final = 1.0
"""A connection that ends sooner counts as a failed attempt: a server that sends rubbish is not hammered."""

_REASONS: Final[dict[Status, Reason]] = {
    Status.ERROR: "model_error",
    Status.BAD_OUTPUT: "model_bad_output",
    Status.NO_MODEL: "model_unavailable",
}


@dataclass(frozen=True, slots=True)
class Scores:
    """One score a row, in order, each a probability of the positive class; and the model they are from."""

    values: list[float]
    version: str


class ModelClient:
    """A client of one model server. Use it from one event loop.

    It does not limit how many served requests are in flight: the caller does. Shadow requests are limited to
    ``shadows_max``, so that they cannot stand in the way of what is served. Times are in milliseconds where a
    name says ``_ms``, else in seconds. ``on_breaker(agent, old, new)`` hears every change of a breaker.
    """

    def __init__(
        self,
        address: str,
        *,
        deadline_ms: float = 40,
        breaker: BreakerPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_breaker: Callable[[str, State, State], None] = lambda _agent, _old, _new: None,
        shadow_deadline_ms: float = 1_000,
        shadows_max: int = 4,
        silences_max: int = 3,
    ) -> None:
        self.address = Address.parse(address)
        self._deadline_ms = deadline_ms
        self._policy = breaker or BreakerPolicy()
        self._clock = clock
        self._on_breaker = on_breaker
        self._shadow_deadline_ms = shadow_deadline_ms
        self._shadows_max = shadows_max
        self._silences_max = silences_max
        self._shadows = 0
        self._connection: Connection | None = None
        self._models: dict[str, ModelInfo] = {}
        self._breakers: dict[str, Breaker] = {}
        self._probe_rows: dict[str, Row] = {}
        self._connected = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._probers: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Begin to connect, in the background; until then requests are refused as ``model_unavailable``."""
        self._keeper = asyncio.create_task(self._keep_connected(), name="model-connection")

    async def stop(self) -> None:
        """Hang up. What is in flight fails as ``model_unavailable``. Safe to call again."""
        tasks = [task for task in (self._keeper, *self._probers.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._lost()

    async def ready(self, timeout_s: float) -> bool:
        """Wait for the first word of the server; False when there is none within ``timeout_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._connection is None:
                    await self._connected.wait()
        return self._connection is not None

    def available(self, agent: str) -> str | None:
        """The version of the agent's model, None while no server has it. The breaker is another matter."""
        model = self._models.get(agent)
        return model.version if model else None

    def breaker(self, agent: str) -> State:
        """State of the agent's breaker."""
        return self._breaker(agent).state

    async def score(self, agent: str, rows: Sequence[Row], deadline_ms: float | None = None) -> Scores:
        """Scores for somebody who waits. Raises `ModelFailure`, at the latest at the deadline."""
        began = time.perf_counter()
        breaker = self._breaker(agent)
        connection, model = self._to(agent, breaker)
        within_ms = self._deadline_ms if deadline_ms is None else deadline_ms
        id_, frame = _request(connection, Lane.SERVED, model, rows)
        try:
            scores = await _ask(connection, id_, frame, model, rows=len(rows), until=began + within_ms / 1000)
        except ModelFailure as failure:
            # a lost connection counts nowhere: while there is none, requests are refused at once
            if failure.reason != "model_unavailable":
                breaker.failed(timeout=failure.reason == "model_timeout")
            raise
        breaker.succeeded()
        if rows:
            self._probe_rows[agent] = rows[0]
        return scores

    async def score_shadow(self, agent: str, rows: Sequence[Row], deadline_ms: float | None = None) -> Scores:
        """Scores that nobody waits for: answered after what is served, refused as ``busy`` when too many.

        An open breaker holds for them too, but they never open it: what is served must not depend on them.
        """
        began = time.perf_counter()
        connection, model = self._to(agent, self._breaker(agent))
        if self._shadows >= self._shadows_max:
            raise ModelFailure("busy", f"{self._shadows} shadow requests are in flight")
        within_ms = self._shadow_deadline_ms if deadline_ms is None else deadline_ms
        id_, frame = _request(connection, Lane.SHADOW, model, rows)
        self._shadows += 1
        try:
            return await _ask(connection, id_, frame, model, rows=len(rows), until=began + within_ms / 1000)
        finally:
            self._shadows -= 1

    def _to(self, agent: str, breaker: Breaker) -> tuple[Connection, ModelInfo]:
        model = self._models.get(agent)
        if self._connection is None or model is None:
            raise ModelFailure("model_unavailable", f"no model for {agent} at {self.address}")
        if not breaker.allows:
            raise ModelFailure("breaker_open", f"the model for {agent} failed lately")
        return self._connection, model

    def _breaker(self, agent: str) -> Breaker:
        found = self._breakers.get(agent)
        if found is None:
            found = Breaker(self._policy, self._clock, partial(self._changed, agent))
            self._breakers[agent] = found
        return found

    def _changed(self, agent: str, old: State, new: State) -> None:
        news = State.CLOSED in (old, new)  # failing probes are none: they come every few seconds
        logger.log(
            logging.WARNING if news else logging.DEBUG, "model breaker of %s: %s -> %s", agent, old, new
        )
        if old is State.CLOSED:
            self._probers[agent] = asyncio.create_task(
                self._probe_until_well(agent), name=f"model-probe-{agent}"
            )
        self._on_breaker(agent, old, new)

    async def _probe_until_well(self, agent: str) -> None:
        breaker = self._breakers[agent]
        while breaker.state is not State.CLOSED:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(breaker.probe_due_s()):
                    await self._connected.wait()  # a new server is tried at once
            breaker.probe_began()
            breaker.probe_ended(well=await self._probe(agent))

    async def _probe(self, agent: str) -> bool:
        """Whether the model answers a small request within the deadline."""
        model = self._models.get(agent)
        if self._connection is None or model is None:
            return False
        row = self._probe_rows.get(agent, ())
        if len(row) != model.features:  # none known yet, or of an earlier model
            row = (0.0,) * model.features
        try:
            id_, frame = _request(self._connection, Lane.SERVED, model, [row])
            until = time.perf_counter() + self._deadline_ms / 1000
            await _ask(self._connection, id_, frame, model, rows=1, until=until)
        except ModelFailure:
            return False
        return True

    async def _keep_connected(self) -> None:
        retry_s, retry_max_s = RETRY_MIN_S, RETRY_LOCAL_MAX_S if self.address.path else RETRY_MAX_S
        while True:
            began = time.monotonic()
            try:
                connection, hello = await connect(self.address, HELLO_S, self._silences_max)
            except (OSError, ProtocolError) as error:
                logger.debug("no model server at %s: %s", self.address, error)
            else:
                self._found(connection, hello)
                await connection.closed
                logger.warning("the connection to the model server at %s ended", self.address)
                self._lost()
            retry_s = RETRY_MIN_S if time.monotonic() - began > SETTLED_S else min(retry_s * 2, retry_max_s)
            # many clients of one server must not come back in step
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.0))

    def _found(self, connection: Connection, hello: Hello) -> None:
        self._connection = connection
        self._models = {model.agent: model for model in hello.models}
        for agent, reason in hello.broken.items():
            logger.error("the model of %s could not be loaded: %s", agent, reason)
        logger.info("model server at %s: %s", self.address, {m.agent: m.version for m in hello.models})
        self._connected.set()
        self._connected = asyncio.Event()

    def _lost(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._models = {}


def _request(connection: Connection, lane: Lane, model: ModelInfo, rows: Sequence[Row]) -> tuple[int, bytes]:
    id_ = connection.next_id()
    try:
        return id_, encode_request(id_, lane, model.agent, model.features, rows)
    except ValueError as error:
        raise ModelFailure("model_error", f"{model.agent}: {error}") from error


async def _ask(
    connection: Connection, id_: int, frame: bytes, model: ModelInfo, *, rows: int, until: float
) -> Scores:
    if rows == 0:
        return Scores([], model.version)
    response = await connection.ask(id_, frame, until - time.perf_counter())
    _check(response, rows)
    return Scores(response.scores, model.version)


def _check(response: Response, rows: int) -> None:
    """Raises `ModelFailure` unless there is one probability a row."""
    if response.status is not Status.OK:
        raise ModelFailure(_REASONS[response.status], response.text)
    scores = response.scores
    if len(scores) != rows:
        raise ModelFailure("model_bad_output", f"{len(scores)} scores for {rows} rows")
    # a sum is NaN if any score is; min and max alone may miss it, for they compare
    if isnan(sum(scores)) or min(scores) < 0 or max(scores) > 1:
        raise ModelFailure("model_bad_output", "a score is no probability")
