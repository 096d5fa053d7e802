"""Structured logs: one line an event, as text for people or JSON for machines."""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

import structlog

from pointsman.streams.settings import Settings

_NOISY = ("aiokafka", "kafka", "faust", "mode", "asyncio")
REPEAT_S: Final = 10.0
"""How long a library does not say the same again. While a broker is away each of a worker's dozens of clients
says so ten times a second."""
TEMPLATES_MAX: Final = 1_000
"""Texts that are remembered; libraries have some dozens."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(settings: Settings, process: str) -> None:
    """Send all logging through structlog's formatter to standard error."""
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _extra,
        _of(process),
    ]
    colours = settings.log == "text" and sys.stderr.isatty()
    last: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log == "json"
        else structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=0)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            last,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(_no_mode_chatter)
    handler.addFilter(_no_early_transaction)
    handler.addFilter(Repeats())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _of(process: str) -> structlog.types.Processor:
    def add(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        event["process"] = process
        return event

    return add


def _no_mode_chatter(record: logging.LogRecord) -> bool:
    """Services log their own life through `mode`; below a warning it says nothing to an operator."""
    return record.levelno >= logging.WARNING or record.module != "services"


def _no_early_transaction(record: logging.LogRecord) -> bool:
    """While the broker still ends a transaction it answers the next one's first batch with "not enough replicas".

    The client sends the batch again a moment later. Where replicas really lack, the transaction's deadline says so.
    """
    early = record.name == "aiokafka.producer.sender" and "NotEnoughReplicasError" in record.getMessage()
    return not early or logging.getLogger().level <= logging.DEBUG


class Repeats(logging.Filter):
    """Lets a library's line through once in a while; the next one then says how many were `left_out`."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is shown. Lines of our own all are."""
        if record.name.partition(".")[0] not in _NOISY:
            return True
        key, now = (record.name, record.levelno, str(record.msg)), time.monotonic()
        shown, left_out = self._seen.get(key, (-REPEAT_S, 0))
        if now - shown < REPEAT_S:
            self._seen[key] = (shown, left_out + 1)
            return False
        if len(self._seen) >= TEMPLATES_MAX:
            self._seen.clear()
        self._seen[key] = (now, 0)
        if left_out:
            record.left_out = left_out
        return True


def _extra(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        for name, value in vars(record).items():
            if name not in _STANDARD and not name.startswith("_"):
                event[name] = value
    return event
