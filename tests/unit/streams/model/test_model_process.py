"""The server as a process of its own: crashes, hangs, its parent's death, signals."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pointsman.streams.model.breaker import BreakerPolicy, State
from pointsman.streams.model.client import ModelClient, ModelFailure
from pointsman.streams.model.folder import sweep
from pointsman.streams.model.process import ModelProcess
from tests.unit.streams.model.model_servers import HANG_S, environment, socket_folder

LOADER = "tests.unit.streams.model.model_fakes:load"
ROW = (0.25, 0.0, 0.0)
DIES, HANGS = (0.5, 4.0, 0.0), 5.0


@contextlib.asynccontextmanager
async def running(**options: Any) -> AsyncIterator[tuple[ModelProcess, ModelClient]]:
    process = ModelProcess(
        **{"loader": LOADER, "restart_s": (0.02, 0.1), "environment": environment(), **options}
    )
    await process.start()
    client = ModelClient(process.address, deadline_ms=1_000, breaker=BreakerPolicy(open_s=0.1))
    await client.start()
    try:
        async with asyncio.timeout(90):
            yield process, client
    finally:
        await client.stop()
        await process.stop()


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not what():
            await asyncio.sleep(0.01)


async def answers(client: ModelClient, agent: str = "plain") -> bool:
    try:
        return (await client.score(agent, [ROW])).values == [0.25]
    except ModelFailure:
        return False


async def until_it_answers(client: ModelClient, agent: str = "plain") -> None:
    async with asyncio.timeout(60):
        while not await answers(client, agent):
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs: a zombie, which only waits to be collected, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_it_lives_in_a_private_folder_and_leaves_nothing_behind() -> None:
    async with running() as (process, client):
        await until_it_answers(client)
        folder = Path(process.address.removeprefix("unix:")).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        pid = process.pid
        assert pid is not None
        assert alive(pid)
    assert not alive(pid)
    assert not folder.exists()
    assert process.pid is None
    await process.stop()


KILLED = """
import os, signal, sys
from pointsman.streams.model.folder import SocketFolder
folder = SocketFolder()
if sys.argv[1] == "listened":
    import socket
    socket.socket(socket.AF_UNIX).bind(str(folder.socket))
print(folder.path, flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["listened", "before"])
async def test_the_folder_of_a_killed_worker_goes_with_the_next_start(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket_folder() as temporary:
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, when],
            env=os.environ | {"TMPDIR": str(temporary)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as owner:
            assert owner.stdout is not None and owner.stdin is not None
            folder = Path(owner.stdout.readline().strip())
            assert folder.parent == temporary
            # its owner lives, though nobody listens there: a server that crashed is about to come again
            assert sweep() == []
            assert folder.exists()
            owner.stdin.write("\n")
            owner.stdin.close()
        async with running() as (process, _):
            assert not folder.exists()
            mine = Path(process.address.removeprefix("unix:")).parent
            assert [path.name for path in temporary.iterdir()] == [mine.name]
        assert list(temporary.iterdir()) == []


def test_a_folder_without_a_lock_stays_while_it_is_new_or_its_server_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket_folder() as temporary:
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        folder = temporary / "pointsman-model-elder"
        folder.mkdir()
        assert sweep() == []
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(folder / "model.sock"))
            server.listen()
            os.utime(folder, (1, 1))
            assert sweep() == []
        assert sweep() == [folder]
        assert not folder.exists()


async def test_after_a_kill_a_new_one_takes_its_place_and_the_same_client_goes_on() -> None:
    restarts = 0

    def count() -> None:
        nonlocal restarts
        restarts += 1

    async with running(on_restart=count) as (process, client):
        await until_it_answers(client)
        first = process.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: process.pid not in (None, first))
        await until_it_answers(client)
        assert process.restarts == restarts == 1


async def test_what_is_in_flight_when_the_model_dies_fails_at_once_and_nothing_after_it() -> None:
    async with running() as (process, client):
        await until_it_answers(client, "obedient")
        asked = [("obedient", DIES), ("plain", ROW), ("obedient", ROW), ("plain", ROW)]
        ends = await asyncio.wait_for(
            asyncio.gather(
                *(client.score(agent, [row], deadline_ms=60_000) for agent, row in asked),
                return_exceptions=True,
            ),
            HANG_S,
        )
        assert [getattr(end, "reason", end) for end in ends] == ["model_unavailable"] * 4
        assert client.breaker("plain") is client.breaker("obedient") is State.CLOSED
        await until_it_answers(client, "obedient")
        await until_it_answers(client, "plain")
        assert process.restarts == 1


async def test_a_hang_costs_a_deadline_opens_the_breaker_and_ends_by_itself() -> None:
    async with running(hang_s=2.5) as (process, client):
        await until_it_answers(client)
        await until(lambda: process.up)
        first = process.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        with pytest.raises(ModelFailure, match="model_timeout"):
            await client.score("plain", [ROW], deadline_ms=20)
        assert client.breaker("plain") is not State.CLOSED
        with pytest.raises(ModelFailure, match=r"breaker_open|model_unavailable"):
            await client.score("plain", [ROW])
        await until(lambda: not alive(first))
        await until_it_answers(client)
        assert process.restarts >= 1


async def test_a_pause_shorter_than_the_limit_kills_nothing() -> None:
    async with running(hang_s=30.0) as (process, client):
        await until_it_answers(client)
        first = process.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        with pytest.raises(ModelFailure, match="model_timeout"):
            await client.score("plain", [ROW], deadline_ms=20)
        os.kill(first, signal.SIGCONT)
        await until_it_answers(client)
        assert (process.pid, process.restarts) == (first, 0)


async def test_a_model_that_computes_for_ever_is_a_hang_too() -> None:
    async with running(hang_s=2.5) as (process, client):
        await until_it_answers(client, "obedient")
        await until(lambda: process.up)
        with pytest.raises(ModelFailure, match="model_timeout"):
            await client.score("obedient", [(0.5, HANGS, 600.0)], deadline_ms=20)
        await until(lambda: process.restarts)
        await until_it_answers(client, "obedient")


async def test_one_that_cannot_start_is_tried_again_and_stop_ends_that() -> None:
    async with running(loader=LOADER.replace(":load", ":fail")) as (process, client):
        await until(lambda: process.restarts >= 2)
        assert client.available("plain") is None


async def test_stop_does_not_wait_for_models_to_load() -> None:
    began = time.monotonic()
    async with running(loader=LOADER.replace(":load", ":slow")) as (process, _):
        pid = process.pid
        assert pid is not None
    assert not alive(pid)
    assert time.monotonic() - began < 30  # the loader takes 60: that none waited for it is all this says


async def test_an_answer_that_came_while_this_process_was_busy_is_no_timeout() -> None:
    async with running() as (_, client):
        await until_it_answers(client)
        await answer_while_busy(client)


def test_the_same_on_uvloop() -> None:
    async def on_uvloop() -> None:
        async with running() as (_, client):
            await until_it_answers(client)
            await answer_while_busy(client)

    uvloop.run(on_uvloop())


async def answer_while_busy(client: ModelClient) -> None:
    """The loop stands still from when the request is out until far beyond the deadline.

    It does so once in a task and once in a socket's callback: there uvloop looks at its timers next.
    """
    call = asyncio.create_task(client.score("plain", [ROW], deadline_ms=50))
    await asyncio.sleep(0)
    time.sleep(0.5)
    assert (await call).values == [0.25]

    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def stand_still() -> None:
            ours.recv(1)
            time.sleep(0.5)

        loop.add_reader(ours, stand_still)
        theirs.send(b"x")
        assert (await client.score("plain", [ROW], deadline_ms=50)).values == [0.25]
        loop.remove_reader(ours)


async def test_the_terminals_ctrl_c_does_not_end_it_and_sigterm_does() -> None:
    async with running() as (process, client):
        await until_it_answers(client)
        pid = process.pid
        assert pid is not None
        assert os.getpgid(pid) != os.getpgid(0)
        os.kill(pid, signal.SIGINT)
        assert await answers(client)
        assert process.pid == pid
        os.kill(pid, signal.SIGTERM)
        await until(lambda: not alive(pid))


PARENT = """
import asyncio, os, signal, sys
from pointsman.streams.model.client import ModelClient
from pointsman.streams.model.process import ModelProcess

async def main():
    process = ModelProcess(loader=sys.argv[1])
    await process.start()
    client = ModelClient(process.address)
    await client.start()
    assert await client.ready(60)
    print(process.pid, process.address.removeprefix("unix:"), flush=True)
    if sys.argv[2] == "stopped":
        os.kill(process.pid, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.parametrize("state", ["running", "stopped"])
async def test_it_ends_with_a_parent_that_is_killed_even_when_it_is_stopped_itself(state: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", PARENT, LOADER, state],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=90,
        check=False,
    )
    assert found.returncode == -signal.SIGKILL
    pid, path = found.stdout.split()
    await until(lambda: not alive(int(pid)))
    folder = Path(path).parent
    for left in folder.iterdir():
        left.unlink()
    folder.rmdir()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def test_it_shows_its_metrics_and_its_health() -> None:
    port = free_port()
    async with running(metrics_port=port) as (_, client):
        await until_it_answers(client)
        status, text = await asyncio.to_thread(get, port, "/metrics")
        assert status == 200
        assert 'pointsman_model_rows_total{agent="plain",lane="served"} 1.0' in text
        assert 'pointsman_model_loaded{agent="plain",version="2026.11.1"} 1.0' in text
        status, text = await asyncio.to_thread(get, port, "/health")
        assert (status, json.loads(text)["healthy"]) == (200, True)
        assert (await asyncio.to_thread(get, port, "/other"))[0] == 404


async def test_a_taken_metrics_port_does_not_keep_the_model_from_answering() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with running(metrics_port=taken.getsockname()[1]) as (_, client):
            await until_it_answers(client)


async def test_a_remote_server_on_tcp_is_the_same_and_ends_with_code_0() -> None:
    port = free_port()
    command = [sys.executable, "-m", "pointsman.streams.model.server", "--loader", LOADER]
    process = await asyncio.create_subprocess_exec(
        *command, "--listen", f"tcp://127.0.0.1:{port}", env=environment()
    )
    client = ModelClient(f"tcp://127.0.0.1:{port}", deadline_ms=5_000)
    await client.start()
    try:
        await until_it_answers(client)
        assert client.available("plain") == "2026.11.1"
    finally:
        await client.stop()
        process.terminate()
        assert await process.wait() == 0


async def test_an_impossible_address_is_named_and_the_code_is_2() -> None:
    command = [sys.executable, "-m", "pointsman.streams.model.server", "--listen", "ftp://x"]
    process = await asyncio.create_subprocess_exec(*command, env=environment(), stderr=subprocess.PIPE)
    _, text = await process.communicate()
    assert process.returncode == 2
    assert b"unix:/path or tcp://host:port, not 'ftp://x'" in text
