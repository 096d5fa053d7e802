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
from typing import Final, Self

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
        [found] = await self.score_all([(agent, rows)], deadline_ms)
        if isinstance(found, ModelFailure):
            raise found
        return found

    async def score_all(
        self, questions: Sequence[tuple[str, Sequence[Row]]], deadline_ms: float | None = None
    ) -> list[Scores | ModelFailure]:
        """The same for rows of several agents, sent together: scores of each, or why it has none. One deadline for all."""
        until = _until(self._deadline_ms if deadline_ms is None else deadline_ms)
        asked: list[_Question] = []
        found: dict[int, Scores | ModelFailure] = {}
        for place, (agent, rows) in enumerate(questions):
            try:
                connection, model = self._to(agent)
                asked.append(_Question.of(connection, Lane.SERVED, model, rows, place))
            except ModelFailure as failure:
                found[place] = failure
        if asked:
            for question, answer in zip(asked, await _ask(connection, asked, until), strict=True):
                found[question.place] = answer
                self._heard(question, answer)
        return [found[place] for place in range(len(questions))]

    def _heard(self, question: _Question, answer: Scores | ModelFailure) -> None:
        agent = question.model.agent
        breaker = self._breaker(agent)
        if isinstance(answer, Scores):
            breaker.succeeded()
            if question.rows:
                self._probe_rows[agent] = question.rows[0]
        # A lost connection counts nowhere: while there is none, requests are refused at once.
        elif answer.reason != "model_unavailable":
            breaker.failed(timeout=answer.reason == "model_timeout")

    async def score_shadow(self, agent: str, rows: Sequence[Row], deadline_ms: float | None = None) -> Scores:
        """Scores that nobody waits for: answered after what is served, refused as ``busy`` when too many.

        An open breaker holds for them too, but they never open it: what is served must not depend on them.
        """
        until = _until(self._shadow_deadline_ms if deadline_ms is None else deadline_ms)
        connection, model = self._to(agent)
        if self._shadows >= self._shadows_max:
            raise ModelFailure("busy", f"{self._shadows} shadow requests are in flight")
        question = _Question.of(connection, Lane.SHADOW, model, rows)
        self._shadows += 1
        try:
            [found] = await _ask(connection, [question], until)
        finally:
            self._shadows -= 1
        if isinstance(found, ModelFailure):
            raise found
        return found

    def _to(self, agent: str) -> tuple[Connection, ModelInfo]:
        model = self._models.get(agent)
        if self._connection is None or model is None:
            raise ModelFailure("model_unavailable", f"no model for {agent} at {self.address}")
        if not self._breaker(agent).allows:
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
            question = _Question.of(self._connection, Lane.SERVED, model, [row])
        except ModelFailure:
            return False
        [found] = await _ask(self._connection, [question], _until(self._deadline_ms))
        return isinstance(found, Scores)

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


@dataclass(frozen=True, slots=True)
class _Question:
    """Rows of one agent on their way."""

    model: ModelInfo
    rows: Sequence[Row]
    id: int
    frame: bytes
    place: int

    @classmethod
    def of(
        cls, connection: Connection, lane: Lane, model: ModelInfo, rows: Sequence[Row], place: int = 0
    ) -> Self:
        """Raises `ModelFailure` for rows that no frame can hold; ``place``: among those that are asked together."""
        id_ = connection.next_id()
        try:
            frame = encode_request(id_, lane, model.agent, model.features, rows)
        except ValueError as error:
            raise ModelFailure("model_error", f"{model.agent}: {error}") from error
        return cls(model, rows, id_, frame, place)


def _until(within_ms: float) -> float:
    return time.perf_counter() + within_ms / 1000


async def _ask(
    connection: Connection, questions: Sequence[_Question], until: float
) -> list[Scores | ModelFailure]:
    frames = {each.id: each.frame for each in questions}
    found = await connection.ask(frames, until - time.perf_counter())
    return [_checked(found[each.id], each) for each in questions]


def _checked(found: Response | ModelFailure, question: _Question) -> Scores | ModelFailure:
    """The scores, if there is one probability a row."""
    if isinstance(found, ModelFailure):
        return found
    if found.status is not Status.OK:
        return ModelFailure(_REASONS[found.status], found.text)
    scores, rows = found.scores, len(question.rows)
    if len(scores) != rows:
        return ModelFailure("model_bad_output", f"{len(scores)} scores for {rows} rows")
    # a sum is NaN if any score is; min and max alone may miss it, for they compare
    if scores and (isnan(sum(scores)) or min(scores) < 0 or max(scores) > 1):
        return ModelFailure("model_bad_output", "a score is no probability")
    return Scores(scores, question.model.version)
