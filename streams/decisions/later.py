"""`Later`: shadow answers that nobody waits for, asked once a batch is committed and published with a later one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from pointsman.streams import metrics
from pointsman.streams.decisions.ask import Scorer, reason_of
from pointsman.streams.decisions.emit import shadows, utc_now
from pointsman.streams.decisions.runtime import Runtime, ml_answers
from pointsman.streams.decisions.validate import Accepted
from pointsman.streams.output import Message

logger = logging.getLogger(__name__)

SHADOW_ROWS_MAX: Final = 20_000
"""Shadow answers that may wait to be published; more are given up, so that memory stays bounded."""


class Later:
    """Of one partition."""

    def __init__(self, scorer: Scorer | None, wake: Callable[[], None]) -> None:
        """``wake``: there is something to publish."""
        self.outbox: list[Message] = []
        self.asking: set[asyncio.Task[None]] = set()
        self._scorer = scorer
        self._wake = wake
        self._rows_asked = 0

    def ask(self, runtime: Runtime, requests: list[Accepted], rows: list[tuple[float, ...]]) -> None:
        """Of one agent's requests."""
        task = asyncio.create_task(self._ask(runtime, requests, rows))
        self.asking.add(task)
        task.add_done_callback(partial(self._asked, runtime.agent.name, len(rows)))

    def _asked(self, agent: str, count: int, task: asyncio.Task[None]) -> None:
        self.asking.discard(task)
        if task.cancelled():  # here, for one that is cancelled before its first step runs nothing of its own
            metrics.SHADOWS_MISSED.labels(agent, "restart").inc(count)

    async def _ask(
        self, runtime: Runtime, requests: Sequence[Accepted], rows: list[tuple[float, ...]]
    ) -> None:
        agent = runtime.agent.name
        scorer = self._scorer
        if scorer is None or len(self.outbox) + self._rows_asked + len(rows) > SHADOW_ROWS_MAX:
            metrics.SHADOWS_MISSED.labels(agent, "busy" if scorer else "model_unavailable").inc(len(rows))
            return
        self._rows_asked += len(rows)
        try:
            [answers] = ml_answers([(runtime, await scorer.score_shadow(agent, rows), len(rows))])
            if isinstance(answers, Exception):
                raise answers
        except Exception as error:  # noqa: BLE001 - nobody waits for this task: what escapes it is never heard of
            reason = reason_of(error)
            metrics.SHADOWS_MISSED.labels(agent, reason).inc(len(rows))
            if reason == "model_error":
                logger.warning("no shadow answers", extra={"agent": agent, "error": repr(error)})
            return
        finally:
            self._rows_asked -= len(rows)
        self.outbox.extend(shadows(runtime, requests, answers, utc_now()))
        metrics.SHADOWS.labels(agent).inc(len(rows))
        self._wake()

    def give_up(self, reason: str) -> None:
        """What was not published."""
        if self.outbox:
            metrics.SHADOWS_MISSED.labels("any", reason).inc(len(self.outbox))
            self.outbox.clear()

    async def close(self) -> None:
        """Questions under way are dropped, and answers that were not published."""
        self.give_up("restart")
        for task in self.asking:
            task.cancel()
        await asyncio.gather(*self.asking, return_exceptions=True)
