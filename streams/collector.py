"""`Collector`: garbage is collected by the clock, not in the middle of a batch."""

from __future__ import annotations

import gc
from typing import Final

from mode import Service

YOUNG_S: Final = 1.0
"""Messages hold no cycles, so their memory comes back without a collection. What does hold some (tasks that failed,
tracebacks) is rare; a second of it is small."""
ALL_EVERY: Final = 60
"""Every so many times the old ones are looked at as well."""


class Collector(Service):
    """While it runs, Python's own collections are off; they would visit each batch's objects again and again.

    Measured on the decision path: 5 to 10 % of the time of a batch (docs/performance.md).
    """

    abstract = False

    async def on_start(self) -> None:
        """What was loaded so far stays: no collection looks at it again."""
        gc.collect()
        gc.freeze()
        gc.disable()

    async def on_stop(self) -> None:
        """As it was before."""
        gc.unfreeze()
        gc.enable()

    @Service.task
    async def _collect(self) -> None:
        rounds = 0
        while not self.should_stop:
            await self.sleep(YOUNG_S)
            rounds += 1
            gc.collect(2 if rounds % ALL_EVERY == 0 else 1)
