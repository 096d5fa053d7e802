"""Why the model did not answer: `ModelFailure`, whose reason stands in the outcome as ``fallback_reason``."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pointsman.schemas.errors import PointsmanError

Reason: TypeAlias = Literal[
    "model_unavailable", "model_timeout", "model_error", "model_bad_output", "breaker_open", "busy"
]


class ModelFailure(PointsmanError):
    """The model gave no answer that can be used.

    ``model_unavailable``  no connection, or no such model there
    ``model_timeout``      no answer within the deadline
    ``model_error``        the model, or the rows it was given, raised an error
    ``model_bad_output``   an answer of the wrong length, or with a number that is no probability
    ``breaker_open``       it failed lately and is left alone; nothing was asked
    ``busy``               enough shadow requests are in flight; nothing was asked
    """

    retriable = True

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason: Reason = reason
        self.detail = detail
