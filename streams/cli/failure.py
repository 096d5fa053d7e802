"""Errors as the command line tells them: one line, and an exit code that means something."""

from __future__ import annotations

from typing import Final

from pointsman.schemas.errors import InvalidMessage, InvalidSetting, PointsmanError

OK: Final = 0
FAILED: Final = 1
BAD_INPUT: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130

NOTHING_RUNS: Final = "nothing runs; start it with `pointsman up`, or set POINTSMAN_KAFKA and POINTSMAN_DSN"
_UNREACHABLE: Final = frozenset({"KafkaUnavailable", "StoreUnavailable", "NotMigrated", "WorkerNotRunning"})
"""By name: their modules import the drivers, which a command that failed early never needed."""
_OURS: Final = frozenset({"EmbeddedServerError"})


class Usage(PointsmanError):
    """The command line asks for something that cannot be."""


def exit_code(error: BaseException) -> int | None:
    """The exit code for an error; None for one that nobody expected, which deserves its traceback."""
    if isinstance(error, (InvalidSetting, InvalidMessage, Usage)):
        return BAD_INPUT
    if type(error).__name__ in _UNREACHABLE:
        return UNREACHABLE
    if isinstance(error, PointsmanError) or type(error).__name__ in _OURS:
        return FAILED
    return None


def one_line(error: BaseException) -> str:
    """The error's text without line ends; a log's last words stay where they are more than a line."""
    if type(error).__name__ in _OURS:
        return str(error).rstrip()
    text = " ".join(str(error).split())
    if isinstance(error, InvalidSetting):
        return f"{text} (`pointsman doctor --settings` lists all)" if "doctor" not in text else text
    return text
