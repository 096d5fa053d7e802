"""What a process listens on, read from /proc, so that no tool has to be installed for it."""

import socket
import struct
from pathlib import Path

LISTEN = "0A"  # TCP_LISTEN in the kernel's include/net/tcp_states.h


def listening(pid: int) -> list[str]:
    """The TCP addresses, `host:port`, that a process listens on, IPv4 and IPv6."""
    inodes = _sockets_of(pid)
    found = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and fields[9] in inodes:
                found.append(_address(fields[1], family))
    return found


def _sockets_of(pid: int) -> set[str]:
    links = (str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir())
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


def _address(text: str, family: int) -> str:
    """'0100007F:1F90' -> '127.0.0.1:8080': the kernel prints words in the machine's byte order."""
    host, _, port = text.partition(":")
    words = [int(host[start : start + 8], 16) for start in range(0, len(host), 8)]
    return f"{socket.inet_ntop(family, struct.pack(f'={len(words)}I', *words))}:{int(port, 16)}"
