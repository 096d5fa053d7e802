"""Run one command and end it when the process that asked for it ends, however that one ends.

Started as `python supervisor.py PLAN`, where PLAN is a `Plan` as JSON. The asking process holds the other end
of standard input and never writes to it: its end of file means "stop now". Should a forked sibling keep that
pipe open, the change of the parent's process id says the same within a second. Only the standard library is
imported, so that it is up in a few hundredths of a second.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import TypedDict

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>
PARENT_CHECK_S = 1.0  # the pipe tells at once; this is only for a pipe that a sibling holds open
EXIT_SIGNALLED = 128  # the shell's way to say in an exit code which signal ended a command
EXIT_NOT_STARTED = 127  # the shell's "command not found"


class Plan(TypedDict):
    """What to run and how it is to end; times in seconds."""

    command: list[str]
    parent: int
    uid: int | None
    gid: int | None
    cwd: str | None
    stop_signal: int
    death_signal: int
    grace_s: float
    remove: list[str]


def die_with(parent: int, death_signal: int) -> Callable[[], None]:
    """A function for the child, between fork and exec: ask the kernel for `death_signal` when `parent` ends.

    The kernel forgets the wish when the user changes, so it must run after that; subprocess does it so.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def ask() -> None:
        if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        if os.getppid() != parent:  # it ended before the wish was made
            os.kill(os.getpid(), signal.SIGKILL)

    return ask


class Watch:
    """Wakes up for whatever may end the wait: a signal, the end of input, or another parent than before.

    Made before the child, so that no signal is missed. The handlers do nothing but wake: unlike ignored
    signals, they are not passed on to the child.
    """

    def __init__(self, parent: int, input_fd: int = 0) -> None:
        self._parent = parent
        self._input_fd = input_fd
        self._asked = False
        self._wake_fd, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._ask)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)

    def _ask(self, _number: int, _frame: object) -> None:
        self._asked = True

    def wait(self, ended: Callable[[], bool]) -> None:
        """Return when `ended()` is true, or when SIGTERM, end of input or the parent's end says stop."""
        while not self._asked and not ended() and os.getppid() == self._parent:
            readable, _, _ = select.select([self._input_fd, self._wake_fd], [], [], PARENT_CHECK_S)
            if self._input_fd in readable and not os.read(self._input_fd, 1):
                return
            if self._wake_fd in readable:
                os.read(self._wake_fd, 4096)


def end(child: subprocess.Popen[bytes], plan: Plan) -> None:
    """Ask the child to stop, and kill it when it has not done so within the grace."""
    if child.poll() is not None:
        return
    child.send_signal(plan["stop_signal"])
    try:
        child.wait(plan["grace_s"])
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def run(plan: Plan) -> int:
    """Run the plan to its end and return the exit code for the shell."""
    watch = Watch(plan["parent"])
    child = subprocess.Popen(
        plan["command"],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        cwd=plan["cwd"],
        user=plan["uid"],
        group=plan["gid"],
        extra_groups=None if plan["gid"] is None else [],
        # safe: this program has one thread
        preexec_fn=die_with(os.getpid(), plan["death_signal"]),  # noqa: PLW1509
    )
    with contextlib.suppress(
        BrokenPipeError
    ):  # nobody waits for the answer any more; the wait below sees it too
        os.write(1, b"%d\n" % child.pid)
    watch.wait(lambda: child.poll() is not None)
    end(child, plan)
    return child.returncode if child.returncode >= 0 else EXIT_SIGNALLED - child.returncode


def main() -> int:
    """Read the plan from the first argument, carry it out, remove what was only for this run."""
    plan: Plan = json.loads(sys.argv[1])
    try:
        return run(plan)
    except OSError as error:
        sys.stderr.write(f"cannot start {plan['command'][0]}: {error}\n")
        return EXIT_NOT_STARTED
    finally:
        for path in plan["remove"]:
            shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
