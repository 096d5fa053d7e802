"""Records a command as a picture of its terminal: `python docs/images/record.py OUT.svg COMMAND...`."""  # noqa: INP001

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLUMNS, ROWS = 108, 50
THEME = TerminalTheme(
    (24, 27, 32),
    (214, 218, 224),
    [(24, 27, 32), (240, 113, 120), (140, 200, 120), (230, 190, 110), (110, 170, 240), (200, 150, 230), (90, 200, 200), (214, 218, 224)],
)  # fmt: skip
"""Its own dark ground: the same on light and dark pages."""
_ERASED = re.compile(r".*(?:\r|\x1b\[2K)(?=.)")
_CONTROL = re.compile(r"\x1b\[(?:\?\d+[hl]|\d*[A-KJ])|\r")


def record(command: list[str]) -> list[str]:
    """The lines that stand on the screen when the command has ended, with their colours."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment) as process:
        os.close(slave)
        raw = b""
        try:
            while chunk := os.read(master, 65_536):
                raw += chunk
        except OSError:
            pass  # how a terminal tells that nobody holds its other end any more
    os.close(master)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}:\n{raw.decode()}")
    lines = raw.decode().replace("\r\n", "\n").rstrip("\n").split("\n")
    # A bar is drawn again and again in its line: what was written over is left out.
    return [_CONTROL.sub("", _ERASED.sub("", line)) for line in lines]


def picture(command: list[str], lines: list[str]) -> str:
    """An SVG of the terminal."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(Text(f"$ {' '.join(command)}", style="bold"))
    for line in lines:
        console.print(Text.from_ansi(line))
    svg = console.export_svg(title=" ".join(command[:2]), theme=THEME, unique_id="terminal")
    svg = re.sub(
        r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL
    )  # a page may not load fonts from elsewhere
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace(
        "Fira Code, monospace", "ui-monospace, SFMono-Regular, Menlo, DejaVu Sans Mono, monospace"
    )
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(sys.argv[2:], record(sys.argv[2:])), encoding="utf-8")
