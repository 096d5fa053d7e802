"""What members leave behind is seen: a process that outlived its worker, and a socket's folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.chaos.stage import Stage


def test_processes_and_folders_left_behind_are_found(tmp_path: Path) -> None:
    stage: Any = Stage.__new__(Stage)
    stage.temporary = tmp_path
    assert stage.leftovers() == []
    (tmp_path / "pointsman-model-abc").mkdir()
    command = [sys.executable, "-c", "print('up', flush=True); input()"]
    with subprocess.Popen(
        command, env=os.environ | {"TMPDIR": str(tmp_path)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        folder, orphan = stage.leftovers()
        process.stdin.close()
    assert folder == "folder pointsman-model-abc"
    assert orphan.startswith(f"process {process.pid}:")
