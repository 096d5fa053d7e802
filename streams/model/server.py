"""The model server: `python -m pointsman.streams.model.server --listen ADDRESS --agents FOLDER...`.

ADDRESS is unix:/path or tcp://host:port: the same program is a worker's child and a remote server. It has no
authentication: listen on loopback, or where only workers can connect.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pointsman.schemas.errors import PointsmanError
from pointsman.streams import loop
from pointsman.streams.logs import configure
from pointsman.streams.model.address import Address
from pointsman.streams.model.observe import BEAT_S, Pulse, ServerMetrics, serve_metrics
from pointsman.streams.settings import Settings

logger = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, or the parent's end. 0; 2 when it cannot start."""
    options = _options(arguments)
    configure(Settings(log=options.log, log_level=options.log_level), "model")
    if options.parent:
        # the terminal's Ctrl-C is for the parent, which drains first
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _die_with(options.parent)
    for variable in THREAD_VARIABLES:  # before numpy is imported: it reads them once
        os.environ[variable] = str(options.threads)
    try:
        loop.run(_serve(options))
    except (OSError, ValueError, ImportError, PointsmanError) as error:
        logger.error("the model server cannot start: %s", error)
        return 2
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pointsman.streams.model.server", description="Scores batches of features."
    )
    parser.add_argument("--listen", required=True, help="unix:/path or tcp://host:port")
    parser.add_argument("--agents", nargs="*", default=[], type=Path, help="folders of further agents")
    parser.add_argument("--loader", default="", help="module:function that loads models in another way")
    parser.add_argument("--threads", type=int, default=1, help="threads of the linear algebra; default 1")
    parser.add_argument("--metrics-host", default="127.0.0.1")
    parser.add_argument("--metrics-port", type=int, default=0, help="port of /metrics and /health; 0: none")
    parser.add_argument(
        "--parent", type=int, default=0, help="process to end with; it holds standard input open"
    )
    parser.add_argument("--log", default="text", choices=("text", "json"))
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser.parse_args(arguments)


def _die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL at the parent's end: it reaches even a stopped process.

    Linux only; elsewhere the end of standard input does it.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it ended before it could be asked for
        sys.exit(0)


async def _serve(options: argparse.Namespace) -> None:
    # these import numpy, which must come after the number of threads is set
    from pointsman.streams.model.loading import find_loader, warm_up  # noqa: PLC0415
    from pointsman.streams.model.serving import ModelServer  # noqa: PLC0415

    address = Address.parse(options.listen)
    loaded = find_loader(options.loader)(options.agents)
    warm_up(loaded)
    gc.collect()
    gc.freeze()  # models and libraries stay: no collection looks at them again, in the middle of a request
    metrics, pulse = ServerMetrics(), Pulse()
    http = None
    if options.metrics_port:
        http = serve_metrics(options.metrics_host, options.metrics_port, metrics, pulse)
    server = await address.listen(ModelServer(loaded, metrics).connection)
    logger.info("serving %s at %s", {n: m.info.version for n, m in loaded.models.items()}, address)
    await _until_stopped(pulse, end_with_input=bool(options.parent))
    server.close()
    if http is not None:
        http.shutdown()
    _remove_socket(address)


def _remove_socket(address: Address) -> None:
    if address.path:
        Path(address.path).unlink(missing_ok=True)


async def _until_stopped(pulse: Pulse, *, end_with_input: bool) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    if end_with_input:
        # nothing is ever written to it: readable means closed
        loop.add_reader(sys.stdin.fileno(), stopped.set)
    else:
        loop.add_signal_handler(signal.SIGINT, stopped.set)
    while not stopped.is_set():
        pulse.beat()
        try:
            await asyncio.wait_for(stopped.wait(), BEAT_S)
        except TimeoutError:
            continue


if __name__ == "__main__":
    sys.exit(main())
