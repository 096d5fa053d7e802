"""One panel as an SVG picture. No library: a line, a pile or some columns, with axes, marks and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape as escaped
from itertools import pairwise
from math import floor, log10
from typing import Final

from msgspec import Struct

from pointsman.streams.dashboards.ask import Series, Window
from pointsman.streams.dashboards.panels import Panel

_WIDTH, _HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 28
_COLORS: Final = ("#3274d9", "#e0752d", "#3f9e4d", "#8f3bb8", "#c4162a", "#6d7b8a", "#b3a100", "#0a9396")
_THRESHOLDS: Final = {"green": "#3f9e4d", "orange": "#e0752d", "red": "#c4162a"}
_UNITS: Final[Mapping[str, tuple[float, str]]] = {
    "percentunit": (100.0, " %"),
    "percent": (1.0, " %"),
    "ms": (1.0, " ms"),
    "s": (1.0, " s"),
    "ops": (1.0, " /s"),
    "bytes": (1e-6, " MB"),
}
"""Grafana's word for a unit to a factor and what stands behind the number."""


class Shown(Struct):
    """A panel with what was found for it, or why there is nothing."""

    panel: Panel
    series: Series
    why_not: str = ""


class _Scale(Struct, frozen=True):
    """From values to places in the picture."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x0) / (self.x1 - self.x0 or 1) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - self.y0) / (self.y1 - self.y0 or 1) * (_HEIGHT - _TOP - _BOTTOM)


def colors_of(series: Series) -> dict[str, str]:
    """A colour for each series that is not the end of another one's interval."""
    return {name: _COLORS[i % len(_COLORS)] for i, name in enumerate(sorted(_base(series)))}


def words(text: str) -> str:
    """A text as it may stand in markup: what XML cannot hold is shown as a question mark."""
    return escaped("".join(letter if letter.isprintable() else "?" for letter in text))


def _base(series: Series) -> list[str]:
    """Names without those that are the ends of another one's interval."""
    return [name for name in series if not (_end_of(name) and _end_of(name) in series)]


def _end_of(name: str) -> str:
    """Whose interval this is an end of; empty for none."""
    for end in (" low", " high"):
        if name.endswith(end):
            return name.removesuffix(end)
    return ""


def number(value: float, unit: str) -> str:
    """A value for people, in its unit."""
    factor, behind = _UNITS.get(unit, (1.0, ""))
    value *= factor
    size = abs(value)
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{value:,.{digits}f}{behind}"


def picture(
    panel: Panel,
    series: Series,
    colors: Mapping[str, str],
    window: Window,
    changes: Sequence[tuple[float, str]],
) -> str:
    """The picture of some series, none of them empty. ``changes``: moments to be marked, and what happened."""
    drawn = _piled(series) if panel.kind == "stacked" else series
    scale = _scale(panel, drawn, window)
    parts = [_axes(panel, scale)]
    for threshold in panel.thresholds[1:]:
        if scale.y0 <= threshold.value <= scale.y1:
            parts.append(
                f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{scale.y(threshold.value):.1f}" '
                f'y2="{scale.y(threshold.value):.1f}" stroke="{_THRESHOLDS[threshold.color]}" stroke-dasharray="6 4"/>'
            )
    if panel.x == "time":
        parts += [_mark(scale, at, what) for at, what in changes if scale.x0 <= at <= scale.x1]
    if panel.kind == "bars":
        parts += _bars(panel, series, colors, scale)
    else:
        for name in reversed(list(colors)) if panel.kind == "stacked" else colors:
            parts += _line(panel, name, drawn, colors[name], scale)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{words(panel.title)}">{"".join(parts)}</svg>'


def alone(shown: Shown, window: Window, changes: Sequence[tuple[float, str]]) -> str:
    """A panel as a file of its own: title, picture, legend; on white, wherever it is put."""
    series = {name: points for name, points in shown.series.items() if points}
    colors = colors_of(series)
    inner = picture(shown.panel, series, colors, window, changes) if series else ""
    legend, rows = [], max(1, -(-len(colors) // 3))
    for i, (name, color) in enumerate(colors.items()):
        x, y = _LEFT + i % 3 * 190, 30 + _HEIGHT + i // 3 * 18
        legend.append(
            f'<rect x="{x}" y="{y}" width="10" height="10" fill="{color}"/><text x="{x + 16}" y="{y + 9}">{words(name)}</text>'
        )
    height = 30 + _HEIGHT + rows * 18 + 6
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">'
        "<style>text{font:11px system-ui,sans-serif;fill:#59636e}</style>"
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>'
        f'<text x="12" y="18" style="font-size:14px;fill:#1f2328">{words(shown.panel.title)}</text>'
        f'<svg y="26" width="{_WIDTH}" height="{_HEIGHT}">{inner}</svg>{"".join(legend)}</svg>\n'
    )


def _piled(series: Series) -> Series:
    """Each series on top of those before it, by name."""
    below: dict[float, float] = {}
    piled: Series = {}
    for name in sorted(series):
        points = dict(series[name])
        for x in sorted({x for other in series.values() for x, _ in other}):
            below[x] = below.get(x, 0.0) + points.get(x, 0.0)
        piled[name] = sorted(below.items())
    return piled


def _scale(panel: Panel, series: Series, window: Window) -> _Scale:
    values = [value for points in series.values() for _, value in points]
    low = min(values) if panel.least is None else panel.least
    high = max(values) if panel.greatest is None else panel.greatest
    if high <= low:
        high = low + 1
    if panel.greatest is None and high > 0:
        high = _round_up(high)
    if panel.x == "time":
        return _Scale(window.start.timestamp(), window.end.timestamp(), low, high)
    xs = [x for points in series.values() for x, _ in points]
    return _Scale(min(xs), max(xs) + 0.02, low, high)


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** floor(log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value)


def _axes(panel: Panel, scale: _Scale) -> str:
    parts = []
    for i in range(5):
        value = scale.y0 + (scale.y1 - scale.y0) * i / 4
        y = scale.y(value)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8b949e" stroke-opacity=".3"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{words(number(value, panel.unit))}</text>'
        )
        at = scale.x0 + (scale.x1 - scale.x0) * i / 4
        parts.append(
            f'<text x="{scale.x(at):.1f}" y="{_HEIGHT - 8}" text-anchor="{("start", "middle", "middle", "middle", "end")[i]}">'
            f"{_x_label(panel, at, scale)}</text>"
        )
    return "".join(parts)


def _x_label(panel: Panel, at: float, scale: _Scale) -> str:
    if panel.x != "time":
        return f"{at:.2f}"
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment:%H:%M}" if scale.x1 - scale.x0 <= 86_400 else f"{moment:%m-%d %H:%M}"


def _mark(scale: _Scale, at: float, what: str) -> str:
    x = scale.x(at)
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" stroke="#8f3bb8" stroke-dasharray="2 3">'
        f"<title>{words(what)}</title></line>"
    )


def _line(panel: Panel, name: str, series: Series, color: str, scale: _Scale) -> list[str]:
    points = [(scale.x(x), scale.y(min(max(value, scale.y0), scale.y1))) for x, value in series[name]]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts = []
    low, high = series.get(f"{name} low"), series.get(f"{name} high")
    if low and high:
        around = [(scale.x(x), scale.y(value)) for x, value in (*high, *reversed(low))]
        shape = " ".join(f"{x:.1f},{y:.1f}" for x, y in around)
        parts.append(f'<polygon points="{shape}" fill="{color}" fill-opacity=".15"/>')
    if panel.kind == "stacked":
        floor_ = (
            f"{points[0][0]:.1f},{scale.y(scale.y0):.1f} {path} {points[-1][0]:.1f},{scale.y(scale.y0):.1f}"
        )
        parts.append(f'<polygon points="{floor_}" fill="{color}" fill-opacity=".45"/>')
    parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
    parts += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{color}"><title>{words(name)}: {words(number(value, panel.unit))}</title></circle>'
        for (x, y), (_, value) in zip(points, series[name], strict=True)
    ]
    return parts


def _bars(panel: Panel, series: Series, colors: Mapping[str, str], scale: _Scale) -> list[str]:
    steps = sorted({x for points in series.values() for x, _ in points})
    wide = min((b - a for a, b in pairwise(steps)), default=(scale.x1 - scale.x0) / 20)
    width = max(1.0, (scale.x(scale.x0 + wide) - scale.x(scale.x0)) * 0.9 / len(colors))
    parts = []
    for i, (name, color) in enumerate(colors.items()):
        for x, value in series[name]:
            top = scale.y(min(max(value, scale.y0), scale.y1))
            parts.append(
                f'<rect x="{scale.x(x) + i * width:.1f}" y="{top:.1f}" width="{width:.1f}" '
                f'height="{max(0.0, scale.y(scale.y0) - top):.1f}" fill="{color}" fill-opacity=".8">'
                f"<title>{words(name)}: {words(number(value, panel.unit))}</title></rect>"
            )
    return parts
