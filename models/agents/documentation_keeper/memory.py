"""What documentation-keeper remembers of a repository: how often changes like this one needed documentation.

Counted are labels, by source path, directory, author, first word of the subject, and kind of subject and of files. Beside each count stands a recent one, in which every further label makes those before it weigh less. So it is
labels that make a count old, not days: a history that is replayed in minutes leaves the same numbers as one that took
years.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Self, TypeAlias, cast

from pointsman.models.agents.documentation_keeper import paths, subject
from pointsman.models.agents.documentation_keeper.measure import NEEDED, NOT_NEEDED
from pointsman.models.agents.documentation_keeper.request import CodeChange
from pointsman.models.decider import Row
from pointsman.models.state import KeyedState, Learned, Told, Values

VERSION: Final = "2"
"""Of what is kept; raise it when counts or keys mean something else."""
SOURCES_MAX: Final = 8
"""Source files of a change that are remembered, the first ones of its list: larger changes are few, and touch all."""
KEY_LETTERS_MAX: Final = 200
"""Longer ones are not remembered: no path that people read is so long."""

WHOLE: Final = "*"
"""The repository's own key."""
Count: TypeAlias = tuple[int, int, float, float]
"""Labels, those that needed documentation; and the same two, recent."""
_Get: TypeAlias = Callable[[str], tuple[float, int, int, float, float] | None]
"""A look-up among a unit's values: moment and count."""
NONE: Final[Count] = (0, 0, 0.0, 0.0)

_DECIMALS: Final = 4
"""Of recent numbers: more would only make records longer."""


class Pace(NamedTuple):
    """How fast the recent numbers of a kind of key forget."""

    kept: float
    """What a label still weighs when the next one has come."""
    weights: Sequence[float]
    """What all labels of a key weigh, by their number, up to where one more changes nothing."""

    @classmethod
    def of(cls, kept: float) -> Self:
        """Written down once: to compute a weight again for every label would cost a fifth of its learning."""
        weights = [0.0]
        while (more := round(weights[-1] * kept + 1, _DECIMALS)) != weights[-1]:
            weights.append(more)
        return cls(kept, tuple(weights))


PACE_WHOLE: Final = Pace.of(0.98)
PACE_AUTHOR: Final = Pace.of(0.85)
PACE_PATH: Final = Pace.of(0.75)
PACE_DIRECTORY: Final = Pace.of(0.85)
PACE_KIND: Final = Pace.of(0.95)


NAMES: Final = (
    "past_rate",
    "past_recent",
    "author_rate",
    "author_recent",
    "paths_known",
    "path_recent",
    "path_highest",
    "directory_recent",
    "word_rate",
    "subject_rate",
    "files_rate",
)
"""Features. The first two are shares; rates of finer keys are odds in the place of the repository's own recent ones."""
PRIOR: Final = 0.25
"""The share of changes that need documentation where nothing is known."""
UNKNOWN: Final[Row] = (PRIOR, PRIOR, 1.0, 1.0, 0.0, *(1.0,) * 6)

# A rate begins as the repository's, which counts as much as so many labels; in recent numbers half of that.
_WEIGHT_WHOLE: Final = 5.0
_WEIGHT_PATH: Final = 2.0
_WEIGHT_PLACE: Final = 4.0
_WEIGHT_KIND: Final = 6.0


PREPARED_MAX: Final = 4_096
"""Notes that are made and not asked for; then they are made anew."""

_LONG: Final = 1_600
"""Letters of a note that has no long path in it, as a rule; six bytes each are far below what a note may have."""

_prepared: dict[int, tuple[CodeChange, str]] = {}
"""Notes of changes whose features were computed, by the identity of the change, which stands beside its note so that
no other can take its place."""


def note(inputs: Sequence[CodeChange]) -> list[Any | None]:
    """What is kept of each change until its label comes: author, word, kinds and source paths, a line each.

    `features` has all of them at hand and leaves them here: to find them again would cost as much as half of a row.
    """
    take = _prepared.pop
    return [found[1] if (found := take(id(change), None)) is not None else _note(change) for change in inputs]


def prepare(
    change: CodeChange, word: str, bits: int, numbers: Sequence[float], sources: Sequence[str]
) -> None:
    """Leave the note of a change of which `features` has counted the files; the arguments are those of `recall`."""
    if len(_prepared) >= PREPARED_MAX:
        _prepared.clear()
    text = _text(change, word, bits, _kind_of_files(numbers), sources[:SOURCES_MAX])
    _prepared[id(change)] = (change, text)


def _text(change: CodeChange, word: str, bits: int, files: int, sources: Sequence[str]) -> str:
    """Paths that no key is made of are left out where they could make the note longer than one may be."""
    text = "\n".join((change.author or "", word, str(bits), str(files), *sources))
    if len(text) <= _LONG:
        return text
    short = [path for path in sources if len(path) <= KEY_LETTERS_MAX]
    return "\n".join((change.author or "", word, str(bits), str(files), *short))


def _note(change: CodeChange) -> str:
    plain, known = paths.plain, paths.known
    sources: list[str] = []
    files = 0
    for file in change.files:
        path = file.path
        kind, public, interface, _, _ = known(path) or plain(path)
        if kind <= 3 or (
            (old := file.previous) is not None and plain(old)[0] <= 3
        ):  # paths.LAST_DOCUMENTATION
            continue
        if kind == 4:  # paths.SOURCE
            files |= (public and 1) | (interface and 2) | (4 if file.status == "A" else 0)
            if len(sources) < SOURCES_MAX:
                sources.append(path)
        else:
            files |= 8 if kind == 5 else 16 if kind == 6 else 32  # paths.TEST, paths.EXAMPLE
    bits, _ = subject.signals(change.subject)
    first = subject.first_word(change.subject)
    return _text(change, first, bits, files, sources)


def learn(told: Told, note: Any, values: Values) -> Learned:
    """Counts the label at each key of the note, or puts it in the place of the one that was counted there before."""
    needed = told.label == NEEDED
    if not needed and told.label != NOT_NEEDED:
        return Learned({}, note)
    if isinstance(note, str):
        return _count(note, values, needed=needed)
    before, text, *places = note
    if before == needed:
        return Learned({}, note)
    return _recount(text, places, values, needed=needed)


def _count(text: str, values: Values, *, needed: bool) -> Learned:
    counts: dict[str, Count] = {}
    places: list[int] = []
    get = cast("_Get", values.get)
    one = int(needed)
    for key, (kept, weights) in _keys(text):
        if (found := get(key)) is None:
            counts[key] = (1, one, 1.0, float(one))
            places.append(1)
            continue
        _, labels, positive, weight, recent = found
        labels += 1
        weight = weights[labels] if labels < len(weights) else weights[-1]
        counts[key] = (labels, positive + one, weight, round(recent * kept + one, _DECIMALS))
        places.append(labels)
    return Learned(counts, [one, text, *places])


def _recount(text: str, places: Sequence[int], values: Values, *, needed: bool) -> Learned:
    """The other label where the first one stood: ``places`` says as which of its key's labels it was counted."""
    counts: dict[str, Count] = {}
    sign = 1 if needed else -1
    for (key, pace), place in zip(_keys(text), places, strict=True):
        labels, positive, weight, recent = _count_of(values, key)
        if labels < place:  # forgotten since, and perhaps begun anew
            continue
        moved = recent + sign * pace.kept ** (labels - place)
        counts[key] = (
            labels,
            min(max(positive + sign, 0), labels),
            weight,
            round(min(max(moved, 0.0), weight), _DECIMALS),
        )
    return Learned(counts, [int(needed), text, *places])


def _count_of(values: Values, key: str) -> Count:
    found = values.get(key)
    if found is None:
        return NONE
    _, labels, positive, weight, recent = found
    return int(labels), int(positive), float(weight), float(recent)


def _keys(text: str) -> list[tuple[str, Pace]]:
    """The keys of a note, each once, with their pace. A name with a line end falls in two, and is not found again."""
    author, word, bits, files, *sources = text.split("\n")
    keys = [(WHOLE, PACE_WHOLE)]
    if author and len(author) < KEY_LETTERS_MAX:
        keys.append((f"@{author}", PACE_AUTHOR))
    keys += (f"={word}", PACE_KIND), (f"?{bits}", PACE_KIND), (f"%{files}", PACE_KIND)
    if len(sources) > 1:
        sources = list(dict.fromkeys(sources))
    sources = [path for path in sources if 0 < len(path) <= KEY_LETTERS_MAX]
    keys += [(path, PACE_PATH) for path in sources]
    plain = paths.plain
    places = dict.fromkeys([plain(path)[3] for path in sources])
    keys += [(place, PACE_DIRECTORY) for place in places]
    return keys


def recall(
    values: Values,
    change: CodeChange,
    word: str,
    bits: int,
    numbers: Sequence[float],
    sources: Sequence[str],
    directories: Sequence[str],
) -> Row:
    """The features of `NAMES`: what the unit's values say of a change.

    Given are the first word and the signals of the subject, the numbers of the files as `features` counts them, and
    all its source paths with their directories.
    """
    get = cast("_Get", values.get)
    whole = get(WHOLE)
    if whole is None:
        return UNKNOWN
    _, labels, positive, weight, recent = whole
    rate = (positive + 2 * PRIOR) / (labels + 2)
    usual = (recent + _WEIGHT_WHOLE * rate) / (weight + _WEIGHT_WHOLE)
    rest = 1 - usual
    odds = usual / rest
    author_rate = author_recent = by_word = by_subject = by_files = 1.0
    if (found := get(f"@{change.author}")) is not None:
        _, labels, positive, weight, recent = found
        author_rate = (positive + 4 * usual) / (labels - positive + 4 * rest) / odds
        author_recent = (recent + 2 * usual) / (weight - recent + 2 * rest) / odds
    prior, other = _WEIGHT_KIND * usual, _WEIGHT_KIND * rest
    if (found := get(f"={word}")) is not None:
        by_word = (found[2] + prior) / (found[1] - found[2] + other) / odds
    if (found := get(_SUBJECT_KEYS[bits])) is not None:
        by_subject = (found[2] + prior) / (found[1] - found[2] + other) / odds
    if (found := get(_FILES_KEYS[_kind_of_files(numbers)])) is not None:
        by_files = (found[2] + prior) / (found[1] - found[2] + other) / odds
    return (
        rate,
        usual,
        author_rate,
        author_recent,
        *_of_paths(get, sources, usual, rest, odds),
        _of_places(get, directories, usual, rest, odds),
        by_word,
        by_subject,
        by_files,
    )


def _of_paths(get: _Get, sources: Sequence[str], usual: float, rest: float, odds: float) -> Row:
    """The share of paths that are known; the recent rate of all together, and the highest rate of one."""
    if len(sources) > SOURCES_MAX:
        sources = sources[:SOURCES_MAX]
    prior, other = _WEIGHT_PATH * usual, _WEIGHT_PATH * rest
    known = 0
    weight = recent = highest = 0.0
    for path in sources:
        if (found := get(path)) is not None:
            _, labels, positive, heavy, late = found
            known += 1
            weight += heavy
            recent += late
            if (one := (positive + prior) / (labels - positive + other)) > highest:
                highest = one
    if not known:
        return (0.0, 1.0, 1.0)
    return (
        known / len(sources),
        (recent + prior / 2) / (weight - recent + other / 2) / odds,
        highest / odds,
    )


def _of_places(get: _Get, directories: Sequence[str], usual: float, rest: float, odds: float) -> float:
    """The recent rate of all directories together."""
    weight = recent = 0.0
    for directory in dict.fromkeys(directories[:SOURCES_MAX]) if len(directories) > 1 else directories:
        if (found := get(directory)) is not None:
            weight += found[3]
            recent += found[4]
    half = _WEIGHT_PLACE / 2
    return (recent + half * usual) / (weight - recent + half * rest) / odds


def _kind_of_files(numbers: Sequence[float]) -> int:
    """The same bits as in a note, from what `features` counted: by place, since a look-up by name costs more."""
    return (
        (1 if numbers[13] else 0)
        | (2 if numbers[16] else 0)
        | (4 if numbers[10] else 0)
        | (8 if numbers[1] else 0)
        | (16 if numbers[3] else 0)
        | (32 if numbers[2] or numbers[4] else 0)
    )


_SUBJECT_KEYS: Final = tuple(f"?{bits}" for bits in range(128))
_FILES_KEYS: Final = tuple(f"%{files}" for files in range(64))
"""Every key of a kind: to write one costs more than to look one up."""


STATE: Final = KeyedState(version=VERSION, note=note, learn=learn)
