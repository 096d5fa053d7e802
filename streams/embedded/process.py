"""A supervised process: it ends when this one does, even on kill -9, and never sees the terminal's Ctrl-C."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from pointsman.streams.embedded import supervisor

POLL_S = 0.02  # a server needs 0.3 s and more to start: this costs nothing and adds little
LOG_TAIL_BYTES = 4_000  # enough for the last screen of a server's log in an error message


class EmbeddedServerError(RuntimeError):
    """A server that Pointsman starts by itself did not start, or ended early; the message says what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How it is stopped: `stop`, SIGKILL after `grace_s`; `orphaned` when even its supervisor was killed."""

    stop: signal.Signals = signal.SIGTERM
    orphaned: signal.Signals = signal.SIGKILL
    grace_s: float = 10.0
    remove: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """The user and group, by number, that a process runs under."""

    uid: int
    gid: int


class SupervisedProcess:
    """One command under a small supervisor that holds a pipe from this process.

    `pid` is the command's own. Output goes to the file `log`. Raises EmbeddedServerError when it cannot be
    started.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        ending: Ending | None = None,
        owner: Owner | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        self._log = _open_log(log)
        ending = ending or Ending()
        self._grace_s = ending.grace_s
        plan = _plan([str(part) for part in command], ending, owner, cwd)
        with log.open("ab") as output:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", supervisor.__file__, json.dumps(plan)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=None if env is None else dict(env),
                start_new_session=True,  # the terminal's Ctrl-C is for us: we drain first
            )
        self.pid = self._read_pid()

    def _read_pid(self) -> int:
        assert self._supervisor.stdout is not None
        line = self._supervisor.stdout.readline()
        if not line:
            self._supervisor.wait()
            raise EmbeddedServerError(self.describe_log())
        return int(line)

    def poll(self) -> int | None:
        """The exit code as a shell gives it (128 + signal), or None while it runs."""
        return self._supervisor.poll()

    def stop(self) -> int:
        """Ask it to end, wait for it, and return the exit code; safe to call again."""
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        self._supervisor.stdin.close()
        self._supervisor.terminate()  # a forked sibling of ours may hold a copy of the pipe open
        # the supervisor kills after the grace, so this wait is bounded; the margin is for a loaded machine
        code = self._supervisor.wait(self._grace_s + 20)
        self._supervisor.stdout.close()
        return code

    def kill(self) -> None:
        """SIGKILL the command, as a crash would end it, and wait until it is gone."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float, what: str) -> None:
        """Return when `ready()` is true; on an early end or after `timeout_s` raise with its last words."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if self.poll() is not None:
                msg = f"{what} ended at its start with code {self.poll()}. {self.describe_log()}"
                raise EmbeddedServerError(msg)
            if time.monotonic() > deadline:
                self.stop()
                msg = f"{what} was not ready after {timeout_s:.0f} s. {self.describe_log()}"
                raise EmbeddedServerError(msg)
            time.sleep(POLL_S)

    def describe_log(self) -> str:
        """Where the log is and how it ends."""
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), LOG_TAIL_BYTES, max(0, size - LOG_TAIL_BYTES))
        return f"The end of its log {self.log}:\n{text.decode(errors='replace')}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _open_log(path: Path) -> BinaryIO:
    """For reading, held open: the file may be gone, with a temporary folder, when it is asked for."""
    path.touch()
    return path.open("rb")


def _plan(command: list[str], ending: Ending, owner: Owner | None, cwd: Path | None) -> supervisor.Plan:
    return {
        "command": command,
        "parent": os.getpid(),
        "uid": owner.uid if owner else None,
        "gid": owner.gid if owner else None,
        "cwd": str(cwd) if cwd else None,
        "stop_signal": ending.stop,
        "death_signal": ending.orphaned,
        "grace_s": ending.grace_s,
        "remove": [str(path) for path in ending.remove],
    }
