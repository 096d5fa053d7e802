"""`Standings`: success and satisfaction as metrics, by what the database knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from pointsman.streams.store.measures import Standing

_LABELS: Final = ("agent", "arm", "window")
_FAMILIES: Final[Sequence[tuple[str, str, Callable[[Standing], float | None]]]] = (
    ("pointsman_success_ratio", "Mean success of the labelled answers", attrgetter("success")),
    ("pointsman_success_labels", "Labels", attrgetter("labels")),
    ("pointsman_satisfaction", "Satisfaction, from 1 to 5,", attrgetter("satisfaction")),
    ("pointsman_satisfaction_signals", "Ratings and signals", attrgetter("signals")),
)


class Standings(Collector):
    """Holds the newest; what is not known is not shown, for a 0 would be taken for a measurement."""

    def __init__(self) -> None:
        self._shown: Sequence[Standing] = ()

    def show(self, standings: Sequence[Standing]) -> None:
        """In the place of all that was shown."""
        self._shown = standings

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Four families; workers that share a database show the same."""
        shown = self._shown
        for name, meaning, value in _FAMILIES:
            family = GaugeMetricFamily(
                name, f"{meaning} of decisions made within the window until now.", labels=_LABELS
            )
            for each in shown:
                if (found := value(each)) is not None:
                    family.add_metric([each.agent, each.arm, each.window], found)
            yield family


STANDINGS: Final = Standings()
REGISTRY.register(STANDINGS)
