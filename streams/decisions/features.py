"""Requests to rows of features; a request whose features fail is a dead letter, the others go on."""

from __future__ import annotations

import logging
from typing import Any

from pointsman.models.agent import Agent
from pointsman.models.decider import Row
from pointsman.schemas.errors import InvalidMessage
from pointsman.streams import metrics
from pointsman.streams.decisions.validate import Accepted, Rejected

logger = logging.getLogger(__name__)


def compute(agent: Agent, requests: list[Accepted]) -> tuple[list[Accepted], list[Row], list[Rejected]]:
    """The requests that have features, their rows, and those that have none.

    The whole batch goes first; only when it fails is the request found that it fails on.
    """
    try:
        return requests, agent.features([each.input for each in requests]), []
    except Exception:
        logger.exception("features failed on a batch", extra={"agent": agent.name, "requests": len(requests)})
    good: list[Accepted] = []
    rows: list[Row] = []
    bad: list[Rejected] = []
    for each in requests:
        row = _one(agent, each.input)
        if isinstance(row, InvalidMessage):
            bad.append(Rejected(each.record, row, each.request.id))
            metrics.FEATURE_ERRORS.labels(agent.name).inc()
        else:
            good.append(each)
            rows.append(row)
    return good, rows, bad


def _one(agent: Agent, value: Any) -> Row | InvalidMessage:
    try:
        return agent.features([value])[0]
    except Exception as error:  # noqa: BLE001 - as above
        return InvalidMessage(
            "feature_error", "input", f"an input that {agent.name} can compute with: {error!r}"
        )
