"""The stage: servers and members of a run, who is meant to be up, and what ended that was not meant to."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from tests.chaos.plan import CLOCKED, JOINER, REMOTE, WORKERS, Plan
from tests.chaos.servers import Broker, Database, ModelServer
from tests.support.pipeline import EXAMPLES, Pipeline, WorkerProcess

logger = logging.getLogger(__name__)

FLAG: Final = "ml-agent-rollout"
RETRY_DELAYS_MS = "300,600,1200"
"""What is tried again comes to its end within a plan."""
SESSION_MS: Final = 6_000
"""The least that a broker allows by default."""
AGAIN_S: Final = 1.0
"""Before a member that ended by itself is started again, as an init system would."""
FAKETIME: Final = tuple(
    path
    for folder in ("x86_64-linux-gnu", "aarch64-linux-gnu", "")
    if (path := Path("/usr/lib") / folder / "faketime" / "libfaketime.so.1").exists()
)
BYTES_A_DECISION: Final = 12_000
"""What one costs the database with its row, contents, indexes and log, generously."""


@dataclass
class Ended:
    """A member that ended without being told to."""

    member: str
    code: int
    at_s: float
    words: str


class Member:
    """A worker of the plan: one process after another."""

    def __init__(self, name: str, stage: Stage, options: dict[str, str], environment: dict[str, str]) -> None:
        self.name = name
        self.process: WorkerProcess | None = None
        self.wanted = False
        self.paused = False
        self.starts = 0
        self.logs: list[Path] = []
        self.options = options
        """Settings of its next process."""
        self._stage = stage
        self._environment = environment
        self._again_at = 0.0

    def start(self) -> None:
        """Start a process and go on; `tend` sees to it later."""
        self.wanted, self.paused = True, False
        self.starts += 1
        log = self._stage.folder / f"{self.name}-{self.starts}.log"
        self.logs.append(log)
        self.process = WorkerProcess(self.options, log, self._environment)

    def tend(self, now_s: float) -> None:
        """Note it when it ended unasked, and start it again a moment later."""
        if not self.wanted or self.process is None:
            return
        code = self.process.ended()
        if code is None:
            return
        if not self._again_at:
            self._stage.ended.append(Ended(self.name, code, now_s, self.process.tail()[-1_500:]))
            self._again_at = time.monotonic() + AGAIN_S
        elif time.monotonic() > self._again_at:
            self._again_at = 0.0
            self.start()

    def kill(self) -> None:
        """SIGKILL."""
        self.wanted = self.paused = False
        if self.process is not None:
            self.process.kill()

    def pause(self) -> None:
        """SIGSTOP."""
        if self.process is not None:
            self.paused = True
            self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self.process is not None:
            self.process.signal(signal.SIGCONT)
            self.paused = False

    def stop(self) -> None:
        """SIGTERM; one that does not end in order is noted."""
        self.wanted = self.paused = False
        if self.process is None:
            return
        already = self.process.ended() is not None
        try:
            code = self.process.stop()
        except AssertionError as error:
            self._stage.faults_found.append(f"{self.name} did not stop within 30 s: {str(error)[-1_500:]}")
            return
        if code == -signal.SIGTERM and self.process.ops() is None:
            return  # told to end before it listened to signals: it had nothing to finish
        if code and not already:
            words = self.process.tail()[-1_500:]
            self._stage.faults_found.append(f"{self.name} ended a SIGTERM with code {code}: {words}")

    def model_pid(self) -> int | None:
        """Its model process, if it has one at this moment."""
        if self.process is None or self.process.ended() is not None:
            return None
        try:
            return self.process.model_pid()
        except (AssertionError, psutil.Error):
            return None


@dataclass
class Stage:
    """Everything that a plan acts on."""

    plan: Plan
    folder: Path
    ended: list[Ended] = field(default_factory=list)
    faults_found: list[str] = field(default_factory=list)
    """What is wrong with the product beyond doubt, seen on the way."""
    settings: dict[str, str] = field(default_factory=dict)
    """Over those of every worker."""

    def __post_init__(self) -> None:
        # Of its own and short: a Unix socket's path has 107 bytes, and what is left in it is ours.
        self.temporary = Path(tempfile.mkdtemp(prefix="pmc-"))
        self.temporary.chmod(0o755)
        # a burst sends some twenty times what its rate says, of which a third is left by its throttle
        records = int(self.plan.rate * self.plan.seconds * (8 if self.plan.name == "burst" else 1.3))
        self.database = Database(self.temporary, records * BYTES_A_DECISION // 1_000_000)
        self.broker = Broker()
        self.models = ModelServer(self.temporary)
        self.clock = self.temporary / "clock"
        self.clock.write_text("+0")
        self.members: dict[str, Member] = {}

    def open(self) -> None:
        """Start servers, make topics and tables, start all members and wait for them."""
        self.broker.start()
        self.database.start()
        self.models.order("")
        self.pipeline = Pipeline(self.broker.bootstrap, self.database.dsn, "chaos-", self.folder)
        self.pipeline.options |= {"partitions": str(self.plan.partitions), "retry_delays_ms": RETRY_DELAYS_MS}
        asyncio.run(self.pipeline.prepare(flag=FLAG, percentage=40))
        lanes = "decisions" if self.plan.layout == "apart" else "decisions,sink"
        for name in (*WORKERS, JOINER):
            self.members[name] = self._member(name, lanes + (",live" if name == WORKERS[0] else ""))
        if self.plan.layout == "apart":
            self.members["sink"] = self._member("sink", "sink")
        for name, member in self.members.items():
            if name != JOINER:
                member.start()
        for name, member in self.members.items():
            if name != JOINER and member.process is not None:
                member.process.wait_ready()

    def _member(self, name: str, lanes: str) -> Member:
        options = {
            "kafka": self.broker.bootstrap,
            "dsn": self.database.dsn,
            "topic_prefix": self.pipeline.prefix,
            "group": f"{self.pipeline.prefix}g",
            "agents": str(EXAMPLES),
            "lanes": lanes,
            "metrics_port": "0",
            "session_timeout_ms": str(SESSION_MS),
            "retry_delays_ms": RETRY_DELAYS_MS,
            "data_dir": str(self.folder / "data"),
        }
        if name == REMOTE:
            options["model_url"] = self.models.url
        environment = {"TMPDIR": str(self.temporary)}
        if name == CLOCKED and FAKETIME:
            environment |= {
                "LD_PRELOAD": str(FAKETIME[0]),
                "FAKETIME_TIMESTAMP_FILE": str(self.clock),
                "FAKETIME_CACHE_DURATION": "1",
                "DONT_FAKE_MONOTONIC": "1",  # the machine's monotonic clock does not jump either
                "NO_FAKE_STAT": "1",
            }
        return Member(name, self, options | self.settings, environment)

    def tend(self, now_s: float) -> None:
        """Keep up what is meant to be up."""
        for member in self.members.values():
            member.tend(now_s)
        self.models.tend()

    def running(self) -> dict[str, Member]:
        """Members that are meant to be up."""
        return {name: member for name, member in self.members.items() if member.wanted}

    def health(self) -> dict[str, Any]:
        """Each running member's report; None where it gives none."""
        return {
            name: member.process.report("health") if member.process and not member.paused else None
            for name, member in self.running().items()
        }

    def stop_members(self) -> None:
        """Workers first, then whoever only writes rows."""
        for member in self.members.values():
            member.stop()

    def leftovers(self) -> list[str]:
        """What members left behind: processes and socket folders."""
        found = [f"folder {path.name}" for path in self.temporary.glob("pointsman-model-*")]
        found += [f"process {process.pid}: {process.cmdline()}" for process in self._offspring()]
        return found

    def _offspring(self) -> list[psutil.Process]:
        """Whatever runs with the members' temporary folder, which nobody else has."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("TMPDIR") == str(self.temporary):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):  # it ended, or is none of ours
                continue
        return found

    def close(self) -> None:
        """End and remove everything."""
        for member in self.members.values():
            if member.process is not None and member.process.ended() is None:
                member.kill()
        self.models.close()
        self.database.close()
        self.broker.close()
        for process in self._offspring():
            process.kill()
        shutil.rmtree(self.temporary, ignore_errors=True)
