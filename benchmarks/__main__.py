"""`make bench`: every measurement that there is, one after the other, then the report.

python -m benchmarks [--only run,latency] [--commits FILE] [options for each that is run]
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from typing import Final

PARTS: Final = {
    "run": (),
    "check": ("--write",),
    "latency": (),
    "sinks": (),
    "growth": (),
    "memory": (),
    "startup": (),
    "dashboards": (),
    "state": (),
    "state_lane": (),
}
"""Module of `benchmarks` to what it is always told; a module that is added here takes part. All take --commits."""


def main() -> int:
    """Run the parts; the exit code is 1 where one failed, after all had their turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="parts, separated by commas; default: all that exist")
    options, further = parser.parse_known_args()
    failed = [part for part in chosen(options.only) if not _run(part, [*PARTS[part], *further])]
    _run("report", [])
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def chosen(only: str) -> list[str]:
    """The parts to run. Raises SystemExit for one that there is not."""
    there = [part for part in PARTS if importlib.util.find_spec(f"benchmarks.{part}")]
    wanted = [part for part in only.split(",") if part]
    unknown = [part for part in wanted if part not in there]
    if unknown:
        raise SystemExit(f"no part {', '.join(unknown)}; there are {', '.join(there)}")
    return [part for part in there if part in wanted or not wanted]


def _run(part: str, arguments: list[str]) -> bool:
    print(f"== {part}", flush=True)
    return (
        subprocess.run([sys.executable, "-m", f"benchmarks.{part}", *arguments], check=False).returncode == 0
    )


if __name__ == "__main__":
    sys.exit(main())
