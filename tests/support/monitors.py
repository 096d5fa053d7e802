"""Real Prometheus and Alertmanager for tests: on loopback, on ports that are free, with what they store in a folder."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pointsman.infra.dev import real_parts
from pointsman.streams.embedded.process import SupervisedProcess
from tests.support.sockets import listening

START_S = 30.0
ANY_PORT = "127.0.0.1:0"


class _Server:
    """A supervised server that is asked over HTTP."""

    def __init__(
        self, name: str, command: Sequence[str | Path], folder: Path, cwd: Path | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._process = SupervisedProcess(command, log=folder / f"{name}.log", cwd=cwd or folder)
        self._process.wait_until(self._listens, timeout_s=START_S, what=name)
        (self.address,) = listening(self._process.pid)
        self._process.wait_until(self._ready, timeout_s=START_S, what=name)

    def _listens(self) -> bool:
        try:
            return bool(listening(self._process.pid))
        except FileNotFoundError:  # it has ended, which is told with its last words
            return False

    def _ready(self) -> bool:
        try:
            self._open("/-/ready")
        except urllib.error.URLError:  # 503 while it starts
            return False
        return True

    def _open(self, path: str, body: Any = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://{self.address}{path}", data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())

    def get(self, path: str) -> Any:
        """What it answers, which must be JSON."""
        return json.loads(self._open(path))

    def log(self) -> str:
        """The end of its log, for messages of failed tests."""
        return self._process.describe_log()

    def stop(self) -> None:
        """Stop it and wait until it has gone."""
        self._process.stop()


class Prometheus(_Server):
    """One Prometheus with the configuration of a folder that `pointsman alerts write` made."""

    def __init__(self, written: Path, folder: Path) -> None:
        command = [
            real_parts.program("prometheus"),
            f"--config.file={written / 'prometheus' / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={ANY_PORT}",
        ]
        super().__init__("prometheus", command, folder)

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that are pending or firing."""
        return list(self.get("/api/v1/alerts")["data"]["alerts"])

    def rules(self) -> list[dict[str, Any]]:
        """All rules of all groups."""
        return [rule for group in self.get("/api/v1/rules")["data"]["groups"] for rule in group["rules"]]


class Alertmanager(_Server):
    """One Alertmanager, without others that it would look for."""

    def __init__(self, written: Path, folder: Path) -> None:
        program = real_parts.program("alertmanager")
        command = [
            program,
            f"--config.file={written / 'alertmanager' / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address={ANY_PORT}",
            "--cluster.listen-address=",
        ]
        super().__init__("alertmanager", command, folder, cwd=program.parents[2])  # beside its own `usr`

    def post(self, alerts: Sequence[dict[str, Any]]) -> None:
        """Hand it alerts, as Prometheus does."""
        self._open("/api/v2/alerts", list(alerts))

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that it knows, inhibited ones too."""
        return list(self.get("/api/v2/alerts"))
