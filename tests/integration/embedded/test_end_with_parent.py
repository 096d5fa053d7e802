"""However the process that started the servers ends, nothing of theirs is left: no process, no folder."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pointsman.streams.embedded.process import Ending, SupervisedProcess
from tests.support.timescale import TimescaleServer

GONE_WITHIN_S = 30.0  # a bound for a loaded machine; as a rule it takes a tenth of a second

PARENT = """
import json, sys, time
from pointsman.streams.embedded import EmbeddedKafka, EmbeddedPostgres
with EmbeddedKafka() as kafka, EmbeddedPostgres() as postgres:
    pids = [kafka.pid, kafka._process._supervisor.pid, postgres.pid, postgres._process._supervisor.pid]
    print(json.dumps({"pids": pids, "folders": [str(kafka._run), str(postgres._run)]}), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        yield process
        process.kill()


def facts(parent: subprocess.Popen[str]) -> tuple[list[int], list[Path]]:
    assert parent.stdout is not None
    told = json.loads(parent.stdout.readline())
    return told["pids"], [Path(folder) for folder in told["folders"]]


def await_end(pids: list[int]) -> None:
    """Wait on the processes themselves, through the kernel, not on a clock."""
    deadline = time.monotonic() + GONE_WITHIN_S
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            ready, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"process {pid} is still there: {Path(f'/proc/{pid}/cmdline').read_bytes()!r}"
        finally:
            os.close(handle)


def test_a_killed_parent_takes_everything_with_it(parent: subprocess.Popen[str]) -> None:
    pids, folders = facts(parent)
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    parent.kill()
    parent.wait()
    await_end(pids)
    assert [folder for folder in folders if folder.exists()] == []


def test_an_orderly_end_takes_everything_with_it(parent: subprocess.Popen[str]) -> None:
    pids, folders = facts(parent)
    parent.communicate("")
    assert parent.returncode == 0
    await_end(pids)
    assert [folder for folder in folders if folder.exists()] == []


def test_the_terminals_interrupt_does_not_reach_the_servers(parent: subprocess.Popen[str]) -> None:
    pids, _ = facts(parent)
    groups = {os.getpgid(pid) for pid in pids}
    assert os.getpgid(parent.pid) not in groups


def test_a_server_does_not_outlive_its_killed_supervisor(tmp_path: Path) -> None:
    process = SupervisedProcess(["sleep", "1000"], log=tmp_path / "log")
    os.kill(process._supervisor.pid, signal.SIGKILL)
    await_end([process.pid])
    process.stop()


@pytest.mark.usefixtures("timescale")
def test_a_server_in_a_chroot_does_not_outlive_its_killed_supervisor_either() -> None:
    server = TimescaleServer().start()
    assert server._process is not None
    os.kill(server._process._supervisor.pid, signal.SIGKILL)
    await_end([server.pid])
    server.stop()


def test_a_forked_sibling_that_holds_the_pipe_does_not_keep_it_alive(tmp_path: Path) -> None:
    """A process made by fork has a copy of the pipe's end, so that its end of file never comes."""
    process = SupervisedProcess(["sleep", "1000"], log=tmp_path / "log")
    assert process._supervisor.stdin is not None
    copy = os.dup(process._supervisor.stdin.fileno())
    try:
        process.stop()
        await_end([process.pid])
    finally:
        os.close(copy)


def test_a_process_that_ignores_the_request_is_killed_after_the_grace(tmp_path: Path) -> None:
    stubborn = (
        "import signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('on', flush=True)\n"
        "while True: signal.pause()\n"
    )
    log = tmp_path / "log"
    process = SupervisedProcess([sys.executable, "-c", stubborn], log=log, ending=Ending(grace_s=0.2))
    process.wait_until(lambda: b"on" in log.read_bytes(), timeout_s=30, what="it")
    assert process.stop() == 128 + signal.SIGKILL


def test_the_exit_code_and_the_last_words_are_passed_on(tmp_path: Path) -> None:
    process = SupervisedProcess([sys.executable, "-c", "raise SystemExit('why')"], log=tmp_path / "log")
    assert process.stop() in (1, 128 + signal.SIGTERM)
    with SupervisedProcess(["sh", "-c", "echo why >&2; exit 3"], log=tmp_path / "log") as other:
        await_end([other.pid])
        assert "why" in other.describe_log()
