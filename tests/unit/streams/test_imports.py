"""What a process does not use it does not import: each library is memory for as long as it runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

DECIDES = "import pointsman.streams.worker"
SERVES_A_MODEL = """
import asyncio
from pointsman.streams import loop
from pointsman.streams.model import server
from pointsman.streams.model.loading import load_artifacts, warm_up
warm_up(load_artifacts([]))
loop.run(asyncio.sleep(0))
"""


@pytest.mark.parametrize(
    ("does", "heavy"),
    [
        (DECIDES, {"psycopg", "sklearn", "onnxruntime", "scipy"}),
        (SERVES_A_MODEL, {"aiokafka", "faust", "psycopg", "aiohttp", "sklearn", "scipy", "skops"}),
    ],
    ids=["decides", "serves a model"],
)
def test_a_process_imports_what_it_needs(does: str, heavy: set[str]) -> None:
    program = f"import sys\n{does}\nprint(sorted({heavy!r} & set(sys.modules)))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
