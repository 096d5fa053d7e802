"""Processes as Linux shows them: who started whom, and who listens where."""

from __future__ import annotations

from pathlib import Path


def children(pid: int) -> list[int]:
    """Process ids below one, however deep."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *children(child)]
    return found


def listener(pids: list[int], address: str) -> int:
    """Which of the processes listens on the port of ``http://host:port``, by the socket's inode."""
    port = int(address.rpartition(":")[2])
    (pid,) = [pid for pid in pids if _listens(pid, port)]
    return pid


def _listens(pid: int, port: int) -> bool:
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    links = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:  # closed meanwhile
            continue
    return any(f"socket:[{inode}]" in links for inode in inodes)
