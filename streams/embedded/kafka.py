"""Kafka without an installation: librdkafka's mock cluster in a child process that ends with this one.

Real wire protocol, offsets and idempotent producers, on loopback only. What it is not: messages are in
memory, a partition keeps 5 MiB or 100,000 batches; clients cannot create topics, they appear when used;
transactions are not isolated and drop the offsets sent in them. A group is for one member: of two, the second
is refused, and a member that comes after another waits a session time-out (less one second). So readers here
assign partitions to themselves (`assign`, not `subscribe`) and commit under their group's name: offsets and
their metadata are kept.
"""

import asyncio
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from pointsman.streams.embedded.process import Ending, SupervisedProcess

START_TIMEOUT_S = 30.0  # a third of a second as a rule
RUN_PREFIX = "pointsman-kafka-"
PROGRAM = "pointsman.streams.embedded.mock_cluster"

# what librdkafka 2.12 fixes at compile time and offers no setting for; tests hold these against the running
# broker
PARTITIONS_OF_A_NEW_TOPIC = 4
RETAINED_BYTES_A_PARTITION = 5 * 1024 * 1024
RETAINED_BATCHES_A_PARTITION = 100_000


class EmbeddedKafka:
    """One mock broker as a child of this process, as a sync or async context manager.

    `topics` are name -> partitions, made before the first client comes; any other topic gets four partitions
    when it is first used. Raises ValueError for a topic without partitions, EmbeddedServerError when it does
    not start.
    """

    def __init__(self, *, topics: Mapping[str, int] | None = None) -> None:
        self._topics = dict(topics or {})
        for name, partitions in self._topics.items():
            if partitions < 1:
                msg = f"topic {name!r}: {partitions} partitions; at least 1 is needed"
                raise ValueError(msg)
        self._run: Path | None = None
        self._process: SupervisedProcess | None = None
        self._bootstrap: str | None = None

    @property
    def bootstrap(self) -> str:
        """`127.0.0.1:port`, as clients want it. Raises RuntimeError when it does not run."""
        if self._bootstrap is None:
            msg = "this Kafka is not running"
            raise RuntimeError(msg)
        return self._bootstrap

    @property
    def pid(self) -> int:
        """The broker's process id. Raises RuntimeError when it does not run."""
        if self._process is None:
            msg = "this Kafka is not running"
            raise RuntimeError(msg)
        return self._process.pid

    def start(self) -> Self:
        """Start the child and return when its broker listens."""
        self._run = Path(tempfile.mkdtemp(prefix=RUN_PREFIX))
        address = self._run / "bootstrap"
        try:
            self._process = SupervisedProcess(
                # -P: a folder of the user's with a Python file named like one of ours must not get in the way
                [sys.executable, "-P", "-m", PROGRAM, address, json.dumps(self._topics)],
                log=self._run / "kafka.log",
                # it holds nothing that could be saved
                ending=Ending(stop=signal.SIGKILL, remove=(self._run,)),
            )
            self._process.wait_until(address.exists, timeout_s=START_TIMEOUT_S, what="the embedded Kafka")
            self._bootstrap = address.read_text()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the child, and with it all messages; safe to call again."""
        process, self._process = self._process, None
        run, self._run = self._run, None
        self._bootstrap = None
        if process is not None:
            process.stop()
        if run is not None:
            shutil.rmtree(run, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)
