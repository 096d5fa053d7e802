"""A profile as a flame picture, in SVG by hand: wider is longer, and what was called stands above who called it.

    py-spy record --pid PID --duration 20 --rate 200 --format raw --output stacks.txt
    python -m benchmarks.flame stacks.txt docs/images/flame-after.svg --title "..." --below PartitionLoop.run

`--below` leaves out what lies under a frame (the program's start is of no interest); `--cut` leaves out what is narrower.
"""

from __future__ import annotations

import argparse
import html
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

WIDTH: Final = 1_200
ROW: Final = 18
LETTER: Final = 6.3
"""Pixels of one, about."""
WARM: Final = ("#f6c177", "#f0a35e", "#ea9a97", "#eb8f6f", "#f5d08a")
STYLE: Final = """
text{font:11px monospace;fill:#1f2328}
.t{font:600 13px system-ui,sans-serif}
@media (prefers-color-scheme: dark){.t{fill:#e6edf3}}
"""
PLACE: Final = re.compile(r" \((?P<file>[^()]*?)(?::\d+)?\)$")
LINE: Final = re.compile(r"^(?P<stack>.+) (?P<count>\d+)$")


@dataclass
class Frame:
    """A function, how many samples it was in, and what it called."""

    name: str
    count: int = 0
    called: dict[str, Frame] = field(default_factory=dict)

    def add(self, names: Iterable[str], count: int) -> None:
        """One stack, the outermost function first."""
        at = self
        at.count += count
        for name in names:
            at = at.called.setdefault(name, Frame(name))
            at.count += count

    @property
    def depth(self) -> int:
        """Rows that it takes."""
        return 1 + max((each.depth for each in self.called.values()), default=0)


def main() -> None:
    """Read stacks, write the picture."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("stacks", type=Path)
    made.add_argument("picture", type=Path)
    made.add_argument("--title", default="")
    made.add_argument("--below", default="")
    made.add_argument("--cut", type=float, default=0.4, help="percent of the whole")
    options = made.parse_args()
    root = read(options.stacks.read_text(encoding="utf-8").splitlines(), options.below)
    options.picture.write_text(draw(root, options.title, options.cut), encoding="utf-8")
    print(f"written: {options.picture}")


def read(lines: Iterable[str], below: str = "") -> Frame:
    """Stacks as py-spy writes them raw (`outer (file:line);inner (file:line) COUNT`), lines of one function together.

    With ``below`` each stack begins behind the frame that has these words; one without it is left as it is. Raises
    ValueError for a line that is no stack.
    """
    root = Frame("all")
    for line in lines:
        found = LINE.match(line)
        if not found:
            msg = f"no stack with its count: {line[:80]!r}"
            raise ValueError(msg)
        names = [_name(each) for each in found["stack"].split(";")]
        start = next((at + 1 for at, name in enumerate(names) if below and below in name), 0)
        root.add(names[start:] if start else names[-1:] if below else names, int(found["count"]))
    return root


def draw(root: Frame, title: str, cut: float = 0.4) -> str:
    """The picture; ``cut`` in percent. A text names each frame that has room for it, and all when pointed at."""
    least = root.count * cut / 100
    height = (root.depth + 2) * ROW
    parts: list[str] = []

    def place(frame: Frame, x: float, level: int) -> None:
        width = WIDTH * frame.count / root.count
        parts.append(_box(frame, root.count, x, height - (level + 1) * ROW, width))
        for each in sorted(frame.called.values(), key=lambda one: one.name):
            if each.count >= least:
                place(each, x, level + 1)
            x += WIDTH * each.count / root.count

    place(root, 0.0, 0)
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{html.escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<text class="t" x="4" y="14">{html.escape(title)}</text>',
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


def _box(frame: Frame, whole: int, x: float, y: float, width: float) -> str:
    colour = WARM[sum(frame.name.encode()) % len(WARM)]
    room = int(width / LETTER) - 1
    says = f"{frame.name}: {100 * frame.count / whole:.1f} %"
    label = frame.name if len(frame.name) <= room else f"{frame.name[: room - 1]}…" if room > 4 else ""
    text = f'<text x="{x + 3:.1f}" y="{y + 13:.0f}">{html.escape(label)}</text>' if label else ""
    return (
        f'<g><title>{html.escape(says)}</title><rect x="{x:.1f}" y="{y:.0f}" width="{max(width - 0.5, 0.5):.1f}" '
        f'height="{ROW - 1}" rx="2" fill="{colour}"/>{text}</g>'
    )


def _name(frame: str) -> str:
    """Function and file, the line left out and the file without its folders but the last."""
    found = PLACE.search(frame)
    if not found:
        return frame
    return f"{frame[: found.start()]} ({'/'.join(found['file'].split('/')[-2:])})"


if __name__ == "__main__":
    main()
