"""A code change, and what is remembered of its repository, to 40 numbers. Pure; the same code serves training, decisions
and explanations.

Documentation is left out first (files by path, words of the subject by mask), so that no number can
know what is to be predicted. Counts and lines are plain: people read them in outcomes, and trees split them as well
as their logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pointsman.models.agents.documentation_keeper import memory, paths, subject
from pointsman.models.agents.documentation_keeper.request import ChangedFile, CodeChange
from pointsman.models.decider import Row
from pointsman.models.state import Seen, Values

VERSION: Final = "4"
"""Raise it whenever a number may come out otherwise: models belong to one version."""

NAMES: Final = (
    "source_files",
    "test_files",
    "config_files",
    "example_files",
    "other_files",
    "source_added",
    "source_removed",
    "source_growth",
    "largest_share",
    "test_added",
    "sources_new",
    "sources_deleted",
    "sources_renamed",
    "public_files",
    "public_added",
    "public_new",
    "interface_files",
    "interface_added",
    "directories",
    "depth",
    "subject_words",
    "subject_fix",
    "subject_feature",
    "subject_setting",
    "subject_interface",
    "subject_upkeep",
    "subject_release",
    "subject_change",
    "body_lines",
    *memory.NAMES,
)


_FLAGS = [tuple(bits >> place & 1 for place in range(7)) for bits in range(128)]
"""The signals of a subject as numbers, for every combination."""


def features(inputs: Sequence[CodeChange], seen: Sequence[Seen]) -> list[Row]:
    """One row of numbers an input, in the order of `NAMES`; every one is finite."""
    return [_row(change, values) for change, (_, values) in zip(inputs, seen, strict=True)]


def forgetful(rows: Sequence[Row]) -> list[Row]:
    """The rows of the same changes in repositories of which nothing is known."""
    own = len(NAMES) - len(memory.NAMES)
    return [row[:own] + memory.UNKNOWN for row in rows]


def _row(change: CodeChange, values: Values) -> Row:
    bits, words = subject.signals(change.subject)
    first = subject.first_word(change.subject)
    sources: list[str] = []
    directories: list[str] = []
    numbers = _of_files(change.files, sources, directories)
    memory.prepare(change, first, bits, numbers, sources)
    own = (*numbers, words, *_FLAGS[bits], change.body_lines)
    if not values:
        return own + memory.UNKNOWN
    return own + memory.recall(values, change, first, bits, numbers, sources, directories)


def _of_files(files: Sequence[ChangedFile], sources: list[str], folders: list[str]) -> Row:  # noqa: PLR0912
    # One flat loop with local integers: a helper call per file would double the time.
    plain, known = paths.plain, paths.known
    source = test = config = example = other = 0
    added = removed = largest = test_added = 0
    new = deleted = renamed = 0
    public = public_added = public_new = interface = interface_added = 0
    depth = 99
    directories = set()
    for file in files:
        path = file.path
        kind, is_public, is_interface, directory, levels = known(path) or plain(path)
        if kind <= 3:  # paths.LAST_DOCUMENTATION
            continue
        if (previous := file.previous) is not None and plain(previous)[0] <= 3:
            continue
        directories.add(directory)
        if kind == 4:  # paths.SOURCE
            source += 1
            sources.append(path)
            folders.append(directory)
            plus = file.added
            minus = file.removed
            added += plus
            removed += minus
            if (lines := plus + minus) > largest:
                largest = lines
            if levels < depth:  # noqa: PLR1730
                depth = levels
            if is_public:
                public += 1
                public_added += plus
                if is_interface:
                    interface += 1
                    interface_added += plus
            if (status := file.status) != "M":
                if status == "A":
                    new += 1
                    public_new += is_public
                elif status == "D":
                    deleted += 1
                elif status == "R":
                    renamed += 1
        elif kind == 5:  # paths.TEST
            test += 1
            test_added += file.added
        elif kind == 6:  # paths.EXAMPLE
            example += 1
        elif kind <= 9:  # paths.CONFIG, DEPENDENCIES, CI
            config += 1
        else:
            other += 1
    lines = added + removed
    return (
        source,
        test,
        config,
        example,
        other,
        added,
        removed,
        (added - removed) / (lines + 1),
        largest / lines if lines else 1.0,
        test_added,
        new,
        deleted,
        renamed,
        public,
        public_added,
        public_new,
        interface,
        interface_added,
        len(directories),
        depth if source else 0,
    )
