"""What each kind of fault does to the stage, and how it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Final

import psutil

from tests.chaos.load import Load
from tests.chaos.plan import KINDS, WORKERS, Fault
from tests.chaos.servers import may_mount
from tests.chaos.stage import FAKETIME, Stage

End = Callable[[], None]
"""Takes the fault back."""


class NotPossible(Exception):
    """The fault finds nothing to hit at this moment; it is counted as left out, and why."""


def begin(fault: Fault, stage: Stage, load: Load) -> End:
    """Do it. Raises `NotPossible`."""
    group, _, what = fault.kind.partition("_")
    match group:
        case "worker" | "sink" | "lag":
            return _worker(what or group, fault.target, stage)
        case "model" if fault.target == "server":
            stage.models.order(what)
            return partial(stage.models.order, "")
        case "model":
            return _own_model(what, fault.target, stage)
        case "broker":
            return _broker(what, stage)
        case "database":
            return _database(what, stage)
        case "clock":
            return _clock(what, stage)
        case "poison":
            load.poison(fault.target)
            return _nothing
    raise ValueError(fault.kind)


def missing_here() -> dict[str, str]:
    """Kinds that cannot be done on this machine, and why."""
    missing = {}
    if not may_mount():
        missing["database_full"] = "no disk of its own: that needs root and mount"
    if not FAKETIME:
        missing |= {kind: "no libfaketime" for kind in KINDS if kind.startswith("clock_")}
    return missing


def _nothing() -> None:
    """Over as soon as it began."""


def _worker(what: str, target: str, stage: Stage) -> End:
    names = WORKERS if target == "all" else (target,)
    members = [stage.members[name] for name in names]
    if what == "join":
        (member,) = members
        member.start()
        return member.stop
    hit = [member for member in members if member.process is not None and member.process.ended() is None]
    if not hit:
        raise NotPossible(f"{target} does not run")
    if what in ("pause", "stall", "lag"):
        for member in hit:
            member.pause()
        return lambda: [member.resume() for member in hit] and None
    for member in hit:
        if what == "restart":
            member.stop()
        else:
            member.kill()
    return lambda: [member.start() for member in hit] and None


def _own_model(what: str, target: str, stage: Stage) -> End:
    pid = stage.members[target].model_pid()
    if pid is None:
        raise NotPossible(f"{target} has no model process")
    if what == "kill":
        os.kill(pid, signal.SIGKILL)
        return _nothing
    process = psutil.Process(pid)
    process.suspend()

    def resume() -> None:
        # is_running compares its time of birth too: a worker that gave it up has another by now
        if process.is_running():
            process.resume()

    return resume


def _broker(what: str, stage: Stage) -> End:
    if not stage.broker.up:
        raise NotPossible("the broker does not run")
    if what == "pause":
        stage.broker.signal(signal.SIGSTOP)
        return partial(stage.broker.signal, signal.SIGCONT)
    if what == "restart":
        stage.broker.stop()
    else:
        stage.broker.kill()
    return stage.broker.start


def _database(what: str, stage: Stage) -> End:
    if what == "full":
        if not stage.database.limited:
            raise NotPossible("the database has no disk of its own")
        stage.database.fill()
        return stage.database.free
    if what == "restart":
        stage.database.stop()
    else:
        stage.database.kill()
    return stage.database.start


JUMPS: Final = {"forward": "+3000", "far": "+18000", "back": "-3000"}
"""Seconds, as libfaketime writes them. A broker takes timestamps up to an hour ahead of its own clock."""


def _clock(what: str, stage: Stage) -> End:
    if not FAKETIME:
        raise NotPossible("no libfaketime on this machine")
    stage.clock.write_text(JUMPS[what])
    return lambda: stage.clock.write_text("+0") and None
