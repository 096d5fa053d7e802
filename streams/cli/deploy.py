"""`up`, `demo` and `worker`: what runs until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from pointsman.streams import local
from pointsman.streams.cli import reach
from pointsman.streams.cli.failure import NOTHING_RUNS, Usage
from pointsman.streams.cli.options import EVERYTHING, with_settings
from pointsman.streams.cli.out import AsJson, console, print_json, table
from pointsman.streams.errors import WorkerNotRunning
from pointsman.streams.settings import Loaded, mask


@with_settings(*EVERYTHING, "partitions", "metrics_port", "log", "log_level")
def up(loaded: Loaded) -> None:
    """Start everything here and keep it running: servers where none are set, topics, tables, workers.

    Kafka and PostgreSQL are the embedded ones unless --kafka and --dsn (or POINTSMAN_KAFKA, POINTSMAN_DSN) name
    others. The embedded Kafka is in memory; the database stays in the data folder. Ctrl-C or SIGTERM drains:
    what was read is decided, committed and written before anything ends. A second Ctrl-C does not wait.

    Example:  pointsman up        then, elsewhere:  pointsman status
    """
    reach.run(_up(loaded))


async def _up(loaded: Loaded) -> None:
    from pointsman.streams.cli.deployment import deployed  # noqa: PLC0415
    from pointsman.streams.logs import configure  # noqa: PLC0415

    settings = loaded.settings
    configure(settings, "up")
    stop = _stop_event()
    async with deployed(settings, postgres=Path(settings.data_dir) / reach.DATABASE_FOLDER) as deployment:
        await deployment.until_ready()
        console().print(_addresses(deployment))
        await stop.wait()
        console(stderr=True).print("stopping: finishing what is under way (Ctrl-C again does not wait)")


def _addresses(deployment: Any) -> Any:
    rows = [
        ("Kafka", deployment.kafka, "embedded, in memory" if deployment.embedded else ""),
        ("PostgreSQL", mask(deployment.dsn), "embedded" if deployment.own_database else ""),
        *(
            (name, f"{ops}/health", "/ready /metrics /live")
            for name, ops in deployment.crew.addresses().items()
        ),
    ]
    return table("pointsman runs; Ctrl-C stops it", ("what", "where", ""), rows)


def _stop_event() -> asyncio.Event:
    """Set by the first Ctrl-C or SIGTERM; the second one ends at once, as it would without us."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def asked() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    return stop


@with_settings(
    *EVERYTHING, "lanes", "metrics_host", "metrics_port", "delivery", "model_url", "log", "log_level"
)
def worker(loaded: Loaded) -> None:
    """Run one worker process in the foreground, on servers that run already.

    Start as many as there are partitions; they share them out. Ctrl-C or SIGTERM finishes and commits what is
    under way, and leaves with exit code 0.

    Example:  pointsman worker --kafka localhost:9092 --dsn postgresql://me@localhost/audit --lanes decisions,sink
    """
    from pointsman.streams.logs import configure  # noqa: PLC0415
    from pointsman.streams.worker import Place, run  # noqa: PLC0415

    settings = loaded.settings
    found = local.servers(settings)
    if not found["kafka"]:
        raise WorkerNotRunning(NOTHING_RUNS)
    if "sink" in settings.lanes and not found["dsn"]:
        msg = "lane sink writes to a database: set --dsn (POINTSMAN_DSN), or leave it out with --lanes decisions,live"
        raise Usage(msg)
    configure(settings, "worker")
    embedded = reach.is_embedded(settings)
    reach.run(run(settings, Place(found["kafka"], found["dsn"], found["cluster"], embedded)))


@with_settings(*EVERYTHING)
def demo(
    loaded: Loaded,
    *,
    git: Annotated[
        Path | None, typer.Option(help="Repository whose history is replayed; default: the one you stand in.")
    ] = None,
    commits: Annotated[
        Path | None, typer.Option(help="File of commits instead: JSON Lines, gzip or not.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Newest decisions only; 0: all. Default: all of a file, 10,000 commits of a repository.",
        ),
    ] = None,
    rollout: Annotated[
        float,
        typer.Option(min=0, max=100, help="Percentage of the decisions that the model serves: the newest."),
    ] = 50.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Replay a git history through the whole pipeline and show what came of it.

    Each commit becomes a request "does this change need documentation?", in the order of time, through Kafka, the
    rules and the model; what the history shows later (did the pull request touch the docs, was it reverted) comes
    as feedback. Everything runs here and is stopped at the end, unless --kafka and --dsn name servers; there the
    demo takes topics of its own (prefix demo-), and writes its decisions into the database that you name.

    Example:  pointsman demo --git ~/src/flask
    """
    from pointsman.streams.demo.run import Options  # noqa: PLC0415
    from pointsman.streams.demo.run import demo as replay  # noqa: PLC0415
    from pointsman.streams.demo.source import choose  # noqa: PLC0415
    from pointsman.streams.logs import configure  # noqa: PLC0415

    options = Options(source=choose(git, commits), limit=limit, rollout=rollout, keep=keep, quiet=False)
    configure(loaded.settings, "demo")
    reach.run(replay(loaded, options, _Show(as_json=as_json, keep=keep)))


class _Show:
    """Prints the demo's result when it is there."""

    def __init__(self, *, as_json: bool, keep: bool) -> None:
        self._as_json = as_json
        self._keep = keep

    def __call__(self, result: Any, deployment: Any) -> None:
        if self._as_json:
            print_json(result)
            return
        from pointsman.streams.demo.report import show  # noqa: PLC0415

        out = console()
        show(result, out)
        if self._keep:
            out.print(_addresses(deployment))
            out.print("  pointsman status", markup=False)
