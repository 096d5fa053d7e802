"""Draws what stands in a model's card: `python docs/images/card.py CARD.json OUT_FOLDER`."""  # noqa: INP001

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

STYLE = """text{font:13px system-ui,sans-serif;fill:#24292f}
.small{font-size:11px;fill:#57606a}
.head{font-weight:600}
.line{stroke:#d0d7de;stroke-width:1}
.ideal{stroke:#8c959f;stroke-width:1;stroke-dasharray:4 4}
.rules{fill:#8c959f}
.model{fill:#0969da}
path.rules{fill:none;stroke:#8c959f;stroke-width:2}
path.model{fill:none;stroke:#0969da;stroke-width:2}
.whisker{stroke:#24292f;stroke-width:1}
@media (prefers-color-scheme: dark){text{fill:#e6edf3}.small{fill:#8d96a0}.line{stroke:#30363d}.whisker{stroke:#e6edf3}
.rules{fill:#6e7681}.model{fill:#4493f8}path.rules{stroke:#6e7681}path.model{stroke:#4493f8}}"""
SIDE, LEFT, TOP = 400, 60, 40
ROW = 20


def svg(width: int, height: int, title: str, parts: list[str]) -> str:
    """A picture that needs nothing from elsewhere and knows dark pages."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>\n{body}\n</svg>\n"
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """A line of words."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def calibration(card: dict[str, Any]) -> str:
    """Scores against shares that were positive, both arms; a dot is as large as its bin is full."""
    parts = [text(LEFT, 20, "How often documentation was needed, by score", "head")]
    for step in range(6):
        share = step / 5
        x, y = LEFT + share * SIDE, TOP + (1 - share) * SIDE
        parts += [
            f'<line class="line" x1="{LEFT}" y1="{y:g}" x2="{LEFT + SIDE}" y2="{y:g}"/>',
            text(LEFT - 8, y + 4, f"{share:.0%}", "small", "end"),
            text(x, TOP + SIDE + 18, f"{share:.1f}", "small", "middle"),
        ]
    parts.append(f'<line class="ideal" x1="{LEFT}" y1="{TOP + SIDE}" x2="{LEFT + SIDE}" y2="{TOP}"/>')
    at = LEFT + card["threshold"] * SIDE
    parts += [
        f'<line class="ideal" x1="{at:g}" y1="{TOP}" x2="{at:g}" y2="{TOP + SIDE}"/>',
        text(at + 4, TOP + 12, "threshold", "small"),
    ]
    for arm, kind in (("rules", "rules"), ("ml", "model")):
        bins = card["curves"][arm]
        most = max(each["n"] for each in bins)
        places = [
            (LEFT + each["mean_score"] * SIDE, TOP + (1 - each["share_positive"]) * SIDE, each["n"])
            for each in bins
        ]
        parts.append(
            f'<path class="{kind}" d="M' + " L".join(f"{x:.1f} {y:.1f}" for x, y, _ in places) + '"/>'
        )
        parts += [
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{2 + 7 * (n / most) ** 0.5:.1f}"><title>{n} decisions</title></circle>'
            for x, y, n in places
        ]
    for place, (kind, words) in enumerate((("model", "model"), ("rules", "rules"))):
        y = TOP + SIDE - 40 + 20 * place
        parts += [
            f'<circle class="{kind}" cx="{LEFT + SIDE - 80}" cy="{y}" r="5"/>',
            text(LEFT + SIDE - 68, y + 4, words),
        ]
    parts.append(text(LEFT + SIDE / 2, TOP + SIDE + 38, "score", "small", "middle"))
    return svg(LEFT + SIDE + 40, TOP + SIDE + 50, "Calibration of rules and model", parts)


def importances(card: dict[str, Any]) -> str:
    """What the balanced accuracy loses without each feature, in points."""
    found = card["importances"]
    left, width = 190, 420
    most = max(each["high"] for each in found)
    scale = width / most
    parts = [text(left, 20, "Points of balanced accuracy lost where a feature is mixed up", "head")]
    for place, each in enumerate(found):
        y = TOP + place * ROW
        length = max(each["loss"], 0.0) * scale
        low, high = (left + max(each[end], 0.0) * scale for end in ("low", "high"))
        parts += [
            text(left - 8, y + 12, each["feature"], "", "end"),
            f'<rect class="model" x="{left}" y="{y + 2}" width="{max(length, 1):.1f}" height="13" rx="2"/>',
            f'<line class="whisker" x1="{low:.1f}" y1="{y + 8.5}" x2="{high:.1f}" y2="{y + 8.5}"/>',
            text(high + 6, y + 12, f"{each['loss'] * 100:.2f}", "small"),
        ]
    return svg(left + width + 60, TOP + len(found) * ROW + 10, "Importance of features", parts)


def main(card_file: Path, out: Path) -> None:
    """Write both pictures, named after the agent."""
    card = json.loads(card_file.read_text())
    for what, draw in (("calibration", calibration), ("importances", importances)):
        (out / f"{card['agent']}-{what}.svg").write_text(draw(card))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
