"""Builders for these tests: small histories as JSON Lines and as git repositories."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

START = datetime(2024, 1, 1, tzinfo=UTC)


def line(number: int, *, docs: bool = False, **changes: Any) -> dict[str, Any]:
    """One line as the commit files have it; ``docs`` adds a documentation file and its label."""
    at = f"{START + timedelta(hours=number):%Y-%m-%dT%H:%M:%SZ}"
    files = [{"p": "src/app/core.py", "a": 10, "r": 2}]
    made = {
        "repo": "example/one",
        "sha": f"{number:010x}",
        "authored_at": at,
        "committed_at": at,
        "author": "a1b2c3d4",
        "bot": 0,
        "parents": 1,
        "land": f"{number:010x}",
        "subject": "Change the core",
        "body_lines": 1,
        "n_files": len(files) + docs,
        "files": [*files, {"p": "docs/index.rst", "a": 5, "r": 0}] if docs else files,
        "y": {
            "dom": 1,
            "same": ["docs"] * docs,
            "land": ["docs"] * docs,
            "next20": 0,
            "next20_any": 0,
            "late": 0,
        },
    }
    return made | changes


def write_lines(file: Path, lines: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(one) + "\n" for one in lines).encode()
    file.write_bytes(gzip.compress(text) if file.suffix == ".gz" else text)
    return file


def learnable(repositories: int = 2, commits: int = 500, seed: int = 3) -> list[dict[str, Any]]:
    """Histories in which options get documented mostly, and fixes hardly ever."""
    random = Random(seed)
    lines = []
    for repository in range(repositories):
        for number in range(commits):
            option = random.random() < 0.4
            lines.append(
                line(
                    number,
                    docs=random.random() < (0.8 if option else 0.1),
                    repo=f"example/r{repository}",
                    subject="Add option for retries" if option else "Fix crash in parser",
                    body_lines=random.randrange(6),
                )
            )
            if option:
                lines[-1]["files"].append(
                    {"p": "src/app/cli.py", "a": random.randrange(20, 90), "r": 0, "s": "A"}
                )
    return lines


class Repository:
    """A git repository in a folder, with commits a minute apart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._minute = 0
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *arguments: str, author: str = "Ann <ann@example.org>") -> str:
        name, email = author.removesuffix(">").split(" <")
        when = f"{int((START + timedelta(minutes=self._minute)).timestamp())} +0000"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": email,
            "GIT_AUTHOR_DATE": when,
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": email,
            "GIT_COMMITTER_DATE": when,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
        }
        command = ["git", "-C", str(self.folder), *arguments]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, message: str, files: dict[str, str | bytes | None] | None = None, **options: str) -> str:
        """Write files (None deletes), commit, and say the sha."""
        for path, content in (files or {}).items():
            place = self.folder / path
            if content is None:
                place.unlink()
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message, **options)
        self._minute += 1
        return self.git("rev-parse", "HEAD")

    def merge(self, branch: str) -> str:
        self.git("merge", "--quiet", "--no-ff", "-m", f"Merge {branch}", branch)
        self._minute += 1
        return self.git("rev-parse", "HEAD")
