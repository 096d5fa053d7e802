"""Where a running deployment says its addresses, so that commands find it without settings.

`pointsman up` and `demo` write ``<data_dir>/run/<group>.json``; the file goes with them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from pointsman.streams.settings import Settings


class Running(Struct, kw_only=True):
    """Addresses of what runs."""

    pid: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    """Of the process that started it."""
    kafka: str
    dsn: str
    cluster: str = ""
    """Set for the embedded broker, which forgets its offsets: a new name for each start."""
    embedded: bool = False
    ops: dict[str, str] = {}
    """Process to the address of its operations port, as in http://127.0.0.1:9310."""


def path(settings: Settings) -> Path:
    """Where the file of this group lies."""
    return Path(settings.data_dir) / "run" / f"{settings.group}.json"


def write(settings: Settings, running: Running) -> None:
    """Publish the addresses, readable by this user only (a connection string may hold a password)."""
    target = path(settings)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = target.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(running))
    draft.replace(target)


def read(settings: Settings) -> Running | None:
    """The addresses, or None where nothing runs: a file that a killed process left behind counts as none."""
    try:
        running = decode(path(settings).read_bytes())
    except OSError:
        return None
    return running if running is not None and alive(running.pid) else None


def decode(value: bytes) -> Running | None:
    """A file's content, or None where it is none of ours."""
    try:
        return msgspec.json.decode(value, type=Running)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def remove(settings: Settings) -> None:
    """Take the addresses back."""
    path(settings).unlink(missing_ok=True)


def alive(pid: int) -> bool:
    """Whether a process of that id runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def servers(settings: Settings) -> Mapping[str, str]:
    """``kafka`` and ``dsn`` as the settings say, else as what runs says; empty where nobody says."""
    running = None if settings.kafka and settings.dsn else read(settings)
    return {
        "kafka": settings.kafka or (running.kafka if running else ""),
        "dsn": settings.dsn or (running.dsn if running else ""),
        "cluster": running.cluster if running and not settings.kafka else "",
    }
