"""Whom a server runs as when we are root, and whether that user can get to a path."""

import os
import pwd
import stat
from pathlib import Path

from pointsman.streams.embedded.process import Owner


def unprivileged_owner() -> Owner | None:
    """None unless this is root; then `nobody`, the one unprivileged user that every Linux has.

    A number without an entry in the user data base would have no neighbours, but initdb wants a name.
    """
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Owner(uid=entry.pw_uid, gid=entry.pw_gid)


def owner_of(path: Path) -> Owner:
    """The user and group that a path belongs to."""
    status = path.stat()
    return Owner(uid=status.st_uid, gid=status.st_gid)


def may_enter(folder: Path, owner: Owner | None) -> bool:
    """Whether `owner` (None: ourselves) can get into a folder, by the permission bits of all parents."""
    if owner is None:
        return os.access(folder, os.X_OK)
    resolved = folder.resolve()
    return all(_may_search(each.stat(), owner) for each in (resolved, *resolved.parents))


def _may_search(status: os.stat_result, owner: Owner) -> bool:
    if status.st_uid == owner.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == owner.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)
