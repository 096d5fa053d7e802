"""`pointsman` on a test's deployment: as a process, or quicker, in the test's own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple
from unittest import mock

from pointsman.streams.cli import main


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Its output, which must be JSON."""
        return json.loads(self.out)


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """These settings, and no others; tables as wide as what stands in them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
    return (
        kept | {f"POINTSMAN_{name.upper()}": value for name, value in settings.items()} | {"COLUMNS": "200"}
    )


def pointsman(settings: Mapping[str, str], *words: str) -> Ran:
    """Run a command with these settings in its environment."""
    done = subprocess.run(
        [sys.executable, "-m", "pointsman.streams.cli", *words],
        env=_environment(settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def here(settings: Mapping[str, str], *words: str) -> Ran:
    """The same in this process, from a test without an event loop: a second quicker."""
    out, err = io.StringIO(), io.StringIO()
    code: object = None
    with (
        mock.patch.dict(os.environ, _environment(settings), clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main(words)
        except SystemExit as ended:
            code = ended.code
    return Ran(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())
