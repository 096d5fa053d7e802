"""Errors of Pointsman: one root, and the one a bad message raises.

PointsmanError            something a person can act on; its message says what
├── InvalidMessage        a message breaks its contract: reason, field, expected
└── InvalidSetting        a setting is unknown or impossible: name, expected
"""

from __future__ import annotations

from typing import ClassVar


class PointsmanError(Exception):
    """Root of all errors that Pointsman raises on purpose.

    ``retriable`` says whether waiting can mend it.
    """

    retriable: ClassVar[bool] = False


class InvalidMessage(PointsmanError):
    """A message breaks its contract.

    ``reason`` is one of `dead_letter.REASONS`, ``field`` the path of what is wrong
    (``input.files[2].added``, ``key``, ``value``), ``expected`` what should stand there.
    """

    def __init__(self, reason: str, field: str, expected: str) -> None:
        super().__init__(f"{field}: {expected}")
        self.reason = reason
        self.field = field
        self.expected = expected


class InvalidSetting(PointsmanError):
    """A setting is unknown or its value impossible; ``name`` names it."""

    def __init__(self, name: str, expected: str) -> None:
        super().__init__(f"{name}: {expected}")
        self.name = name
        self.expected = expected
