"""Dashboards as one page that needs nothing else: no Grafana, no script, no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pointsman.streams.dashboards.ask import Series, Window
from pointsman.streams.dashboards.panels import Dashboard, Panel
from pointsman.streams.dashboards.picture import Shown, colors_of, number, picture, words

_STYLE: Final = """
body{font:14px/1.4 system-ui,sans-serif;margin:0 auto;padding:16px;max-width:1360px;background:#fff;color:#1f2328}
h1{font-size:22px;margin:0 0 4px}h2{font-size:16px;margin:0 0 2px}p{margin:0 0 8px;color:#59636e}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(560px,1fr));gap:16px}
section{border:1px solid #d1d9e0;border-radius:6px;padding:12px}
svg{width:100%;height:auto;display:block}svg text{font:11px system-ui,sans-serif;fill:#59636e}
ul{list-style:none;padding:0;margin:6px 0 0;display:flex;flex-wrap:wrap;gap:4px 14px;font-size:12px}
i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px}
.nothing{padding:56px 0;text-align:center;color:#59636e}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}p,svg text,.nothing{color:#9198a1;fill:#9198a1}
section{border-color:#3d444d}}
"""


def page(
    dashboard: Dashboard, window: Window, shown: Sequence[Shown], changes: Sequence[tuple[float, str]]
) -> str:
    """The whole page. ``changes``: moments (seconds since 1970) that all panels mark, and what happened."""
    sections = "\n".join(_section(each, window, changes) for each in shown)
    span = f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC, steps of {_duration(window)}"
    return (
        "<!doctype html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{words(dashboard.title)}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>\n'
        f"<h1>{words(dashboard.title)}</h1><p>{words(dashboard.description)} {span}.</p>\n"
        f"<main>\n{sections}\n</main></body></html>\n"
    )


def _duration(window: Window) -> str:
    minutes = int(window.step.total_seconds() // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"


def _section(shown: Shown, window: Window, changes: Sequence[tuple[float, str]]) -> str:
    panel, series = shown.panel, {name: points for name, points in shown.series.items() if points}
    head = f"<h2>{words(panel.title)}</h2><p>{words(panel.description)}</p>"
    if not series:
        return f'<section>{head}<div class="nothing">{words(shown.why_not or "no data")}</div></section>'
    colors = colors_of(series)
    legend = "".join(
        f'<li><i style="background:{color}"></i>{words(name)}{words(last(series, name, panel))}</li>'
        for name, color in colors.items()
    )
    drawn = picture(panel, series, colors, window, changes)
    note = f"<p>{words(shown.why_not)}</p>" if shown.why_not else ""
    return f"<section>{head}{drawn}<ul>{legend}</ul>{note}</section>"


def last(series: Series, name: str, panel: Panel) -> str:
    """The newest value of a series, with its interval; of a distribution, which has none, nothing."""
    if panel.x != "time":
        return ""
    text = ": " + number(series[name][-1][1], panel.unit)
    if f"{name} low" in series and f"{name} high" in series:
        low, high = (series[f"{name} {end}"][-1][1] for end in ("low", "high"))
        text += f" ({number(low, panel.unit)} to {number(high, panel.unit)})"
    return text
