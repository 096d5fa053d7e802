"""Contenders as bars, in SVG by hand: messages a second, and CPU a message beside it."""

from __future__ import annotations

import html
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks import figures

WIDTH: Final = 860
ROW: Final = 26
LEFT: Final = 190
BAR: Final = 230
"""Longest bar of either side, in pixels; the figure stands behind it."""
SECOND: Final = LEFT + BAR + 110
STYLE: Final = """
text{font:13px system-ui,sans-serif;fill:#24292f}
.head{font-weight:600}
.other{fill:#8c959f}
.ours{fill:#0969da}
@media (prefers-color-scheme: dark){text{fill:#e6edf3}.other{fill:#6e7681}.ours{fill:#4493f8}}
"""


def picture(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The drawing of a throughput result's runs (name to its runs): by work, the quickest on top."""
    rate = {
        name: statistics.median(run["messages"] / run["wall_s"] for run in own) for name, own in runs.items()
    }
    cpu = {
        name: statistics.median((run["cpu_s"] + run["model_cpu_s"]) / run["messages"] * 1e6 for run in own)
        for name, own in runs.items()
    }
    works = {
        work: sorted((name for name in (ours, *others) if name in rate), key=lambda name: -rate[name])
        for work, (ours, others) in figures.LIKE_WITH_LIKE.items()
    }
    works = {work: names for work, names in works.items() if names}
    parts, y = [], ROW
    for work, names in works.items():
        parts.append(_text(8, y + 18, work, "head"))
        for name in names:
            y += ROW
            parts.append(_text(20, y + 18, name, ""))
            parts += _bar(LEFT, y, rate[name] / max(rate.values()), f"{rate[name]:,.0f}", name)
            parts += _bar(SECOND, y, cpu[name] / max(cpu.values()), f"{cpu[name]:,.1f}", name)
        y += ROW
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 10}" role="img">',
        "<title>Messages a second and CPU a message of every contender</title>",
        f"<style>{STYLE}</style>",
        _text(LEFT, 18, "messages a second", "head"),
        _text(SECOND, 18, "CPU µs a message", "head"),
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def _bar(x: int, y: int, share: float, says: str, name: str) -> list[str]:
    length = max(1, round(share * BAR * (1 if x == LEFT else 0.8)))
    kind = "ours" if name.startswith("lane") else "other"
    bar = f'<rect class="{kind}" x="{x}" y="{y + 5}" width="{length}" height="{ROW - 9}" rx="2"/>'
    return [bar, _text(x + length + 6, y + 18, says, "")]


def _text(x: int, y: int, says: str, kind: str) -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x}" y="{y}"{named}>{html.escape(says)}</text>'
