"""`Drifts`: what the drift watch found, as metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from pointsman.streams.store.drift import Drifted

_LABELS: Final = ("agent", "feature")


class Drifts(Collector):
    """Holds the newest; of features with too few decisions only their number is shown."""

    def __init__(self) -> None:
        self._shown: Sequence[Drifted] = ()

    def show(self, found: Sequence[Drifted]) -> None:
        """In the place of all that was shown."""
        self._shown = found

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Three families; workers that share a database show the same."""
        sampled = GaugeMetricFamily(
            "pointsman_drift_sampled",
            "Decisions of the drift watch's window that were compared with the training part.",
            labels=_LABELS,
        )
        effect = GaugeMetricFamily(
            "pointsman_drift_effect", "Population stability index against the training part.", labels=_LABELS
        )
        drifted = GaugeMetricFamily(
            "pointsman_drifted", "1 where effect and chance say that it has drifted, else 0.", labels=_LABELS
        )
        for agent, each in self._shown:
            sampled.add_metric([agent, each.feature], each.n)
            if each.verdict != "too_few" and each.effect is not None:
                effect.add_metric([agent, each.feature], each.effect)
                drifted.add_metric([agent, each.feature], each.verdict == "drifted")
        return [sampled, effect, drifted]


DRIFTS: Final = Drifts()
REGISTRY.register(DRIFTS)
