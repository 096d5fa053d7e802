"""Folders for model sockets: private, held by a lock while their owner lives, swept by the next one after a kill."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import socket
import stat
import tempfile
import time
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

PREFIX: Final = "pointsman-model-"
SOCKET: Final = "model.sock"
LOCK: Final = "owner.lock"
KNOCK_S: Final = 1.0
"""A socket of this machine answers or refuses at once; one whose queue is full does neither, and is alive."""
ELDER_S: Final = 600.0
"""Folders without a lock file are of versions before it, or a moment old: by then their server listens or is dead."""


class SocketFolder:
    """A new folder, mode 0700, below the temporary one; ours until `remove`, or until this process ends.

    The lock in it says that its owner lives. That its socket refuses a connection says nothing by itself: so
    does one whose server was killed and is about to be started again.
    """

    def __init__(self) -> None:
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))  # mkdtemp makes it 0700
            held = _hold(self.path / LOCK, os.O_CREAT)
            if held is not None:
                break
            # A sweep came between making the lock and holding it, and took the folder for abandoned.
        self._lock = held

    @property
    def socket(self) -> Path:
        """Where the server is to listen."""
        return self.path / SOCKET

    def remove(self) -> None:
        """Remove it, and let it go. Safe to call again."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def sweep() -> list[Path]:
    """Remove the folders whose owner was killed; those that were removed. What is another user's stays."""
    removed = [path for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*") if _swept(path)]
    if removed:
        logger.info("removed what killed workers left", extra={"folders": [str(path) for path in removed]})
    return removed


def _swept(path: Path) -> bool:
    try:
        status = path.lstat()
        if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
            return False
        held = None
        if (path / LOCK).exists():
            held = _hold(path / LOCK)
            abandoned = held is not None
        else:
            abandoned = time.time() - status.st_mtime > ELDER_S and not _listens(path / SOCKET)
    except OSError as error:  # gone meanwhile, or something that no owner of ours makes
        logger.debug("not looked into: %s", error)
        return False
    if abandoned:
        shutil.rmtree(path, ignore_errors=True)
    if held is not None:
        os.close(held)
    return abandoned


def _hold(path: Path, flags: int = 0) -> int | None:
    """The lock on a file, as an open descriptor; None where another process has it, or the file is gone.

    Raises OSError where the file cannot be opened or made.
    """
    try:
        held = os.open(path, os.O_RDWR | os.O_NOFOLLOW | flags, 0o600)
    except FileNotFoundError:  # the folder went meanwhile
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = os.path.samestat(os.fstat(held), path.stat())
    except OSError:  # held by its owner, or removed between the two
        ours = False
    if not ours:
        os.close(held)
    return held if ours else None


def _listens(path: Path) -> bool:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(KNOCK_S)
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:  # a full queue: somebody is there, or was a moment ago
            return True
    return True
