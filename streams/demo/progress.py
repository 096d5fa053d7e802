"""How far the demo is: a bar with rate and time left on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_S: Final = 2.0
"""Between two plain lines: a log stays readable."""


class Reporter:
    """Says on standard error what is going on. Use as a context manager."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Progress | None = None
        self._task: Any = None
        self._total = 0
        self._began = 0.0
        self._last = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def say(self, text: str) -> None:
        """One line."""
        if not self._quiet:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def begin(self, what: str, total: int) -> None:
        """The replay begins."""
        self._total, self._began, self._last = total, time.monotonic(), time.monotonic()
        if self._quiet or not sys.stderr.isatty():
            return
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(what, total=total, rate="")
        self._bar.start()

    def at(self, done: int) -> None:
        """So many decisions are made."""
        now = time.monotonic()
        rate = done / max(0.001, now - self._began)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, rate=f"{rate:,.0f}/s")
        elif now - self._last >= LINE_S:
            self._last = now
            self.say(plain(done, self._total, rate))

    def finish(self) -> None:
        """The bar stays as it is."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def plain(done: int, total: int, rate: float) -> str:
    """A line of progress; the rest in seconds at the rate so far."""
    left = f"{(total - done) / rate:.0f} s left" if rate > 0 and done else "time left unknown"
    return f"{done:,} of {total:,} decisions ({100 * done / max(1, total):.0f} %), {rate:,.0f}/s, {left}"
