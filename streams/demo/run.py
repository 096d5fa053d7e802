"""The demo from start to end: servers and workers up, a history replayed, the figures, everything down again."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from pointsman.models.agent import Agent
from pointsman.models.artifact import Card, load_card
from pointsman.models.registry import load_agents
from pointsman.streams.cli.crew import ask
from pointsman.streams.cli.deployment import Deployment, deployed
from pointsman.streams.cli.failure import Usage
from pointsman.streams.cli.reach import DATABASE_FOLDER, DEMO_FOLDER, connection
from pointsman.streams.demo import figures
from pointsman.streams.demo.drive import Drive
from pointsman.streams.demo.figures import Replay, Result
from pointsman.streams.demo.progress import Reporter
from pointsman.streams.demo.source import FEW, NEWEST, NoInput, Source
from pointsman.streams.demo.timeline import AGENT, Timeline, build
from pointsman.streams.errors import WorkerNotRunning
from pointsman.streams.flags import FlagWriter
from pointsman.streams.settings import Loaded, Settings

FLAG_S: Final = 15.0
"""How long the workers may take to learn a flag: a tenth of a second as a rule."""
EARLY_S: Final = 0.2
"""A wrong input shows itself in a few milliseconds; a right one is read on while the servers start."""
FAST: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""The demo's rows survive its end, but need not survive a crash of the machine."""


DEADLINE_MS: Final = 250
"""For the model. A replay keeps every core busy, broker and database included; what is to be seen are its answers,
not the machine's bottleneck. Slower ones still fall back."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a person may choose."""

    source: Source
    limit: int | None = None
    rollout: float = 50.0
    keep: bool = False
    quiet: bool = False


async def demo(loaded: Loaded, options: Options, on_result: Any) -> None:
    """Run it all; ``on_result(result, deployment)`` is called before things stop, or are kept.

    Raises `PointsmanError` for whatever a person can act on.
    """
    settings = adapted(loaded)
    with home(settings) as folder, Reporter(quiet=options.quiet) as reporter:
        run_name = f"demo{secrets.token_hex(2)}"
        reporter.say("reading the history, and starting Kafka, PostgreSQL and the workers")
        reading = asyncio.create_task(asyncio.to_thread(_read, options, run_name))
        try:
            await _early(reading)
            async with _started(settings, folder) as deployment:
                timeline = await reading
                reporter.say(described(deployment, folder))
                result = await replayed(deployment, timeline, options, run_name, reporter)
                on_result(_with_hint(result, loaded, folder), deployment)
                if options.keep:
                    await _until_signal()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _early(reading: asyncio.Task[Timeline]) -> None:
    """An input that cannot be read says so at once: nothing need be started for it."""
    done, _ = await asyncio.wait({reading}, timeout=EARLY_S)
    for task in done:
        task.result()


def adapted(loaded: Loaded) -> Settings:
    """The settings, with ports of their own; on servers that were given also with names of their own.

    A demo must never move real traffic: its topics and its group are apart unless somebody names others.
    """
    settings, origins = loaded.settings, loaded.origins
    changes: dict[str, Any] = {}
    if origins["metrics_port"] == "default":
        changes["metrics_port"] = 0
    if settings.kafka:
        if origins["topic_prefix"] == "default":
            changes["topic_prefix"] = "demo-"
        if origins["group"] == "default":
            changes["group"] = "demo"
    if origins["model_deadline_ms"] == "default":
        changes["model_deadline_ms"] = DEADLINE_MS
    if origins["log_level"] == "default":
        changes["log_level"] = "warning"
    return msgspec.structs.replace(settings, **changes)


def _read(options: Options, run_name: str) -> Timeline:
    source = options.source
    newest = NEWEST if options.limit is None and source.git is not None else options.limit or 0
    timeline = build(source.read(newest if source.git is not None else 0), run_name, newest)
    if not timeline.asked:
        msg = (
            f"{source.name}: none of its {timeline.commits} commits changes source code by a person, "
            "so there is nothing to decide; choose another with --git PATH or --commits FILE"
        )
        raise NoInput(msg)
    return timeline


@contextmanager
def home(settings: Settings) -> Iterator[Path]:
    """The demo's folder, emptied, for this process alone; a temporary one where the data folder cannot be written.

    Raises `Usage` while another demo uses it.
    """
    folder = Path(settings.data_dir) / DEMO_FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        with tempfile.TemporaryDirectory(prefix="pointsman-demo-") as temporary:
            Path(temporary).chmod(0o755)  # the database's user must get in, and nothing secret lies here
            yield Path(temporary)
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"another demo uses {folder}: wait for its end, or give this one another --data-dir"
            raise Usage(msg) from None
        _empty(folder)
        yield folder
    finally:
        os.close(lock)


def _empty(folder: Path) -> None:
    """Remove what the demo before left; a link leads to where root's database had to go."""
    for old in folder.iterdir():
        if old.name == "lock":
            continue
        if old.is_symlink():
            shutil.rmtree(old.resolve(), ignore_errors=True)
            old.unlink()
        elif old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink()


@asynccontextmanager
async def _started(settings: Settings, folder: Path) -> AsyncIterator[Deployment]:
    # Where the data folder cannot be written, the addresses cannot be published there either.
    if not folder.is_relative_to(settings.data_dir):
        settings = msgspec.structs.replace(settings, data_dir=str(folder))
    async with deployed(
        settings, postgres=folder / DATABASE_FOLDER, postgres_settings=FAST, logs=folder
    ) as deployment:
        await deployment.until_ready()
        yield deployment


def described(deployment: Deployment, folder: Path) -> str:
    """What runs now, in one line; the guarantee is part of it."""
    broker = (
        "embedded Kafka (decisions at least once here; each counts once in the database)"
        if deployment.embedded
        else f"Kafka at {deployment.kafka} (decisions exactly once)"
    )
    return f"{broker}, {'embedded' if deployment.own_database else 'given'} PostgreSQL; logs in {folder}"


async def replayed(
    deployment: Deployment, timeline: Timeline, options: Options, run_name: str, reporter: Reporter
) -> Result:
    """Replay a timeline and say what it came to."""
    agent = load_agents([Path(each) for each in deployment.settings.agents])[AGENT]
    by_rules = round(timeline.asked * (1 - options.rollout / 100))
    await _set_flag(deployment, agent, 0.0 if by_rules else 100.0)

    async def switch() -> None:
        await _set_flag(deployment, agent, 100.0)

    since = datetime.now(UTC)
    async with connection(deployment.dsn) as connected:
        reporter.begin("decisions", timeline.asked)
        drive = Drive(deployment, connected, run_name, lambda counts: reporter.at(counts.answered))
        if by_rules:
            # A unit goes to one arm as a whole, and many a history is of one alone: so the arms follow each other.
            drive.switch = (by_rules, switch)
        counts = await drive.run(timeline.events)
        reporter.at(counts.answered)
        reporter.finish()
        replay = Replay(
            run=run_name,
            since=since,
            cluster=deployment.cluster,
            requests=deployment.names.requests,
            own_database=deployment.own_database,
        )
        reporter.say("waiting for the last rows")
        await figures.settle(connected, replay, counts)
        measured = await figures.measure(connected, replay, agent)
    card = _card(agent)
    asked = [event.at for event in timeline.events if event.kind == "ask"]
    return Result(
        input=options.source.name,
        commits=timeline.commits,
        repositories=timeline.repositories,
        since=asked[0],
        until=asked[-1],
        rollout_percent=options.rollout,
        model=card.version if card else None,
        requests=counts.asked,
        outcomes=counts.answered,
        doubled=counts.doubled,
        feedback=counts.told,
        seconds=round(counts.seconds, 3),
        per_second=round(counts.answered / counts.seconds, 1),
        notes=list(notes(options.source, card, measured["labelled"], counts.doubled)),
        **measured,
    )


def _with_hint(result: Result, loaded: Loaded, folder: Path) -> Result:
    """With the command that shows the example, where its rows outlive the demo."""
    settings = loaded.settings
    if result.example is None:
        return result
    if not settings.dsn and not folder.is_relative_to(settings.data_dir):
        gone = f"nothing is kept, since {settings.data_dir} cannot be written: give a folder with --data-dir"
        return msgspec.structs.replace(result, notes=[*result.notes, gone])
    options = {
        name: getattr(settings, name) for name, origin in loaded.origins.items() if origin == "command line"
    }
    given = [
        f" --{name.replace('_', '-')} {shlex.quote(options[name])}"
        for name in ("data_dir",)
        if name in options
    ]
    if settings.dsn and "dsn" in options:
        given.append(" --dsn …")
    return msgspec.structs.replace(result, explain=f"{_program()} explain {result.example}{''.join(given)}")


def _program() -> str:
    """How a person calls this program here: by its name, or by the path it was called with when that is not on PATH."""
    called = sys.argv[0]
    return called if Path(called).name == "pointsman" and not shutil.which("pointsman") else "pointsman"


def _card(agent: Agent) -> Card | None:
    return load_card(agent.model) if agent.model is not None else None


async def _set_flag(deployment: Deployment, agent: Agent, percent: float) -> None:
    """Send all traffic to one arm, and wait until the workers know."""
    writer = FlagWriter(
        deployment.kafka,
        deployment.names.flags,
        group=deployment.settings.group,
        transactional=not deployment.embedded,
    )
    await writer.set(
        agent.flag, percent, by="pointsman demo", why="both arms serve in the demo, one after the other"
    )
    worker = deployment.crew.children[0]
    try:
        async with asyncio.timeout(FLAG_S):
            while (await ask(f"{worker.ops}/health") or {}).get("flags", {}).get(agent.flag) != percent:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
    except TimeoutError:
        msg = f"the worker did not learn flag {agent.flag} within {FLAG_S:.0f} s"
        raise WorkerNotRunning(msg) from None


def notes(source: Source, card: Card | None, labelled: int, doubled: int) -> Iterator[str]:
    """What must be said beside the figures."""
    if card is None:
        yield "no model is installed for this agent: the rules answered everything"
    elif card.data.sha256 == source.sha256():
        held = card.metrics
        yield (
            "the model was trained on this very file, so its figures here are too good; on the newest "
            f"{card.data.tested_on:,} decisions, which it had not seen, balanced accuracy was "
            f"{100 * held.ml.balanced_accuracy.value:.1f} % (rules {100 * held.rules.balanced_accuracy.value:.1f} %)"
        )
    if labelled < FEW:
        yield (
            f"only {labelled} decisions have a known truth: they say little about any others; a longer history "
            "says more: --git PATH, or make demo GIT=PATH"
        )
    if doubled:
        yield f"{doubled} outcomes came twice (at least once on the embedded broker); the database counts each once"


async def _until_signal() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(ValueError):
            loop.remove_signal_handler(number)
