"""Success and satisfaction as metrics: what is not known is not shown."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from pointsman.streams.standing import Standings
from pointsman.streams.store.measures import Standing


def standing(**changes: object) -> Standing:
    known: dict[str, object] = {
        "agent": "keeper", "arm": "candidate", "window": "1h", "decisions": 9,
        "labels": 4, "success": 0.75, "signals": 2, "satisfaction": 3.5,
    }  # fmt: skip
    return Standing(**{**known, **changes})  # type: ignore[arg-type]


def shown(standings: Standings) -> list[str]:
    registry = CollectorRegistry()
    registry.register(standings)
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_each_figure_is_shown_with_its_agent_arm_and_window() -> None:
    standings = Standings()
    standings.show([standing()])
    labels = '{agent="keeper",arm="candidate",window="1h"}'
    assert shown(standings) == [
        f"pointsman_success_ratio{labels} 0.75",
        f"pointsman_success_labels{labels} 4.0",
        f"pointsman_satisfaction{labels} 3.5",
        f"pointsman_satisfaction_signals{labels} 2.0",
    ]


def test_what_is_not_known_is_not_shown_and_what_was_known_is_forgotten() -> None:
    standings = Standings()
    standings.show([standing()])
    standings.show([standing(labels=0, success=None, signals=0, satisfaction=None)])
    assert [line.split("{")[0] for line in shown(standings)] == [
        "pointsman_success_labels",
        "pointsman_satisfaction_signals",
    ]
    standings.show([])
    assert shown(standings) == []
