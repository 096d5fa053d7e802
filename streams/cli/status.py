"""What runs, from the operations ports of what runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pointsman.streams import local
from pointsman.streams.cli.crew import ask
from pointsman.streams.cli.failure import NOTHING_RUNS
from pointsman.streams.cli.out import table
from pointsman.streams.settings import Loaded

if TYPE_CHECKING:
    from rich.console import Console


async def gather(loaded: Loaded, ops: list[str]) -> dict[str, Any]:
    """The report: ``healthy`` is None where nothing answers, False where anything that should run does not."""
    addresses = _addresses(loaded, ops)
    healths = await asyncio.gather(*(ask(f"{url}/health") for url in addresses.values()))
    lives = await asyncio.gather(*(ask(f"{url}/live") for url in addresses.values()))
    processes = {name: health for name, health in zip(addresses, healths, strict=True) if health is not None}
    live = next((found for found in lives if found and "error" not in found), {})
    missing = sorted(set(addresses) - set(processes))
    flags: dict[str, float] = {}
    for health in processes.values():
        flags |= health.get("flags", {})
    healthy = all(health.get("healthy") for health in processes.values()) and not missing
    return {
        "healthy": healthy if processes else None,
        "addresses": addresses,
        "missing": missing,
        "processes": processes,
        "flags": flags,
        "live": live,
    }


def _addresses(loaded: Loaded, ops: list[str]) -> dict[str, str]:
    """By option, else by what runs in this group, else where a worker would be."""
    if ops:
        return {url: url.rstrip("/") for url in ops}
    settings = loaded.settings
    running = local.read(settings)
    if running is not None and running.ops:
        return running.ops
    return {"worker": f"http://{settings.metrics_host}:{settings.metrics_port}"}


def show(report: dict[str, Any], out: Console) -> None:
    """Print it for people."""
    if report["healthy"] is None:
        asked = ", ".join(report["addresses"].values())
        out.print(f"{NOTHING_RUNS} (asked {asked})", markup=False)
        return
    out.print(
        "healthy" if report["healthy"] else "NOT HEALTHY",
        style="bold green" if report["healthy"] else "bold red",
    )
    for name in report["missing"]:
        out.print(f"{name} does not answer at {report['addresses'][name]}", markup=False, style="red")
    lanes = [
        (
            process,
            lane,
            _state(state),
            len(state["partitions"]),
            state["lag_records"],
            state.get("waiting_records", 0),
            _failures(state),
        )
        for process, health in report["processes"].items()
        for lane, state in health.get("lanes", {}).items()
    ]
    columns = ("process", "lane", "state", "partitions", "lag", "to be tried again", "failures")
    out.print(table("Lanes", columns, lanes, right=columns[3:6]))
    models = [
        (agent, model["version"] or "not there: the rules answer", model["breaker"])
        for health in report["processes"].values()
        for agent, model in health.get("models", {}).items()
    ]
    if models:
        out.print(table("Models", ("agent", "version", "breaker"), models))
    flags = [(name, f"{percentage:g} %") for name, percentage in sorted(report["flags"].items())]
    out.print(table("Flags", ("flag", "to the model"), flags or [("none was set", "0 %")]))
    _show_live(report["live"], out)


def _state(state: dict[str, Any]) -> str:
    if state.get("halted"):
        return "HALTED"
    if not state["healthy"]:
        return f"STALLED {state['stalled_partitions'] or ''}".strip()
    return "runs" if state["ready"] else "starting"


def _failures(state: dict[str, Any]) -> str:
    if state.get("halted"):
        return str(state["halted"])
    return "; ".join(f"{number}: {failure}" for number, failure in state["failures"].items())


def _show_live(live: dict[str, Any], out: Console) -> None:
    columns = ("arm", "window", "decisions", "by model", "fallbacks", "escalated", "agree", "p50 ms", "p95")
    shown = False
    for agent, arms in live.items():
        rows = [
            (arm, window.replace("_", " "), *_figures(figures))
            for arm, windows in arms.items()
            for window, figures in windows.items()
            if figures is not None
        ]
        if rows:
            out.print(table(f"Live figures of {agent}", columns, rows, right=columns[2:]))
            shown = True
    if not shown:
        out.print("no decisions in the last day", style="dim")


def _figures(figures: dict[str, Any]) -> tuple[Any, ...]:
    agreement = figures["agreement"]
    return (
        f"{figures['decisions']:,}",
        f"{figures['by_ml']:,}",
        f"{sum(figures['fallbacks'].values()):,}",
        f"{figures['escalations']:,}",
        None if agreement is None else f"{100 * agreement:.1f} %",
        figures["latency_p50_ms"],
        figures["latency_p95_ms"],
    )
