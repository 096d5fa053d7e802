"""What documentation-keeper remembers: counts, taking back, and that the future changes nothing."""

from __future__ import annotations

from math import isfinite
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.models.agents.documentation_keeper import memory
from pointsman.models.agents.documentation_keeper.features import NAMES, features
from pointsman.models.agents.documentation_keeper.measure import NEEDED, NOT_NEEDED, PREDICTIONS
from pointsman.models.agents.documentation_keeper.request import FILES_MAX, ChangedFile, CodeChange
from pointsman.models.state import NOTHING, UNSEEN, Seen, Told, check_note

PATHS = [
    "src/a.py",
    "src/b.py",
    "src/in/c.py",
    "src/in/deep/d.py",
    "lib/e.py",
    "tests/test_f.py",
    "docs/x.md",
    "g.py",
]
changes = st.builds(
    CodeChange,
    repository=st.just("example/one"),
    subject=st.sampled_from(["Fix crash", "Add option", "docs: typo", ""]),
    files=st.lists(
        st.builds(ChangedFile, path=st.sampled_from(PATHS), status=st.sampled_from("AM")), max_size=10
    ),
    author=st.sampled_from([None, "ann", "bob"]),
)


class World:
    """Values and notes as a state keeps them, without bounds."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[Any, ...]] = {}
        self.notes: dict[int, Any] = {}

    def ask(self, decision: int, change: CodeChange) -> None:
        self.notes[decision] = memory.note([change])[0]

    def tell(self, decision: int, label: str) -> None:
        told = Told(str(decision), label, 0.0)
        learned = memory.learn(told, self.notes[decision], self.values)
        for key, value in learned.values.items():
            assert value is not None
            self.values[key] = (0.0, *value)
        self.notes[decision] = learned.note

    def counts(self) -> dict[str, tuple[Any, ...]]:
        return {key: value[1:3] for key, value in self.values.items()}

    def recent(self) -> dict[str, tuple[Any, ...]]:
        return {key: value[3:] for key, value in self.values.items()}


labels = st.lists(st.tuples(st.integers(0, 5), st.sampled_from([*PREDICTIONS, "unheard of"])), max_size=40)


@given(st.lists(changes, min_size=6, max_size=6), labels)
def test_labels_in_any_order_and_number_leave_the_counts_of_the_last_ones(
    some: list[CodeChange], told: list[tuple[int, str]]
) -> None:
    world, once = World(), World()
    for decision, change in enumerate(some):
        world.ask(decision, change)
        once.ask(decision, change)
    last: dict[int, str] = {}
    for decision, label in told:
        world.tell(decision, label)
        if label in PREDICTIONS:
            last[decision] = label if decision in last else last.setdefault(decision, label)
            last[decision] = label
    for decision, label in last.items():
        once.tell(decision, label)
    assert world.counts() == once.counts()
    for key, numbers in once.recent().items():
        assert world.recent()[key] == pytest.approx(numbers, abs=0.01)


@given(changes, st.lists(changes, max_size=5))
def test_a_change_finds_every_key_that_its_label_was_counted_at(
    one: CodeChange, others: list[CodeChange]
) -> None:
    """Serving and learning name the keys apart from each other, since one is on the way of every request."""
    world = World()
    for decision, change in enumerate([one, *others]):
        world.ask(decision, change)
    world.tell(0, NEEDED)
    found = dict(zip(NAMES, features([one], [Seen(0.0, world.values)])[0], strict=True))
    sources = memory.note([one])[0].split("\n")[4:]  # type: ignore[union-attr]
    assert (found["author_recent"] > 1) == (one.author is not None)
    assert found["paths_known"] == bool(sources)
    assert all(found[name] > 1 for name in ("word_rate", "subject_rate", "files_rate"))
    if sources:
        assert all(found[name] > 1 for name in ("path_recent", "path_highest", "directory_recent"))


@given(st.lists(changes, min_size=1, max_size=6), labels)
def test_features_are_finite_whatever_was_learned(
    some: list[CodeChange], told: list[tuple[int, str]]
) -> None:
    world = World()
    for decision, change in enumerate(some):
        world.ask(decision, change)
    for decision, label in told:
        world.tell(decision % len(some), label)
    for row in features(some, [Seen(0.0, world.values)] * len(some)):
        assert all(isfinite(number) for number in row)


@given(st.lists(changes, min_size=1, max_size=4))
def test_without_memory_a_row_is_what_the_change_itself_says(some: list[CodeChange]) -> None:
    world = World()
    world.ask(0, some[0])
    world.tell(0, NOT_NEEDED)
    rows = features(some, [UNSEEN] * len(some))
    own = len(NAMES) - len(memory.NAMES)
    assert [row[own:] for row in rows] == [memory.UNKNOWN] * len(some)
    remembered = features(some, [Seen(0.0, world.values)] * len(some))
    assert [row[:own] for row in rows] == [row[:own] for row in remembered]


def test_a_label_that_is_taken_back_weighs_what_it_weighed() -> None:
    world = World()
    change = CodeChange(repository="r", subject="x", files=[ChangedFile(path="src/a.py")])
    for decision in range(4):
        world.ask(decision, change)
        world.tell(decision, NEEDED if decision == 1 else NOT_NEEDED)
    assert world.values["src/a.py"][1:3] == (4, 1)
    assert world.values["src/a.py"][4] == pytest.approx(memory.PACE_PATH.kept**2, abs=1e-3)
    world.tell(1, NOT_NEEDED)
    assert world.values["src/a.py"][1:3] == (4, 0)
    assert world.values["src/a.py"][4] == pytest.approx(0, abs=1e-3)


def test_what_was_forgotten_is_not_taken_back() -> None:
    world = World()
    world.ask(0, CodeChange(repository="r", subject="x", files=[ChangedFile(path="src/a.py")]))
    world.tell(0, NEEDED)
    del world.values["src/a.py"]
    world.tell(0, NOT_NEEDED)
    assert "src/a.py" not in world.values
    assert world.values[memory.WHOLE][1:3] == (1, 0)


def test_the_largest_change_leaves_a_bounded_note_and_few_keys() -> None:
    files = [ChangedFile(path=f"{'d/' * 90}{number}.py") for number in range(FILES_MAX)]
    change = CodeChange(repository="r", subject="w " * 250, files=files, author="a" * 200)
    (kept,) = memory.note([change])
    learned = memory.learn(Told("d", NEEDED, 0.0), kept, NOTHING)
    assert len(msgspec.json.encode(learned.note)) < 4_000
    assert len(learned.values) < 24
    assert all(len(key) <= memory.KEY_LETTERS_MAX + 1 for key in learned.values)


def test_paths_that_no_key_is_made_of_do_not_make_a_note_too_long() -> None:
    files = [ChangedFile(path=f"{number}{'界' * 990}.py") for number in range(FILES_MAX)]
    change = CodeChange(repository="r", subject="x", files=files, author="界" * 200)
    (alone,) = memory.note([change])
    check_note(alone)
    features([change], [UNSEEN])
    assert memory.note([change]) == [alone]


@given(st.lists(changes, min_size=1, max_size=6), st.randoms())
def test_a_note_is_the_same_whether_features_were_computed_before_or_not(
    some: list[CodeChange], random: Any
) -> None:
    alone = memory.note(some)
    features(some, [UNSEEN] * len(some))
    random.shuffle(order := list(range(len(some))))
    assert memory.note([some[i] for i in order]) == [alone[i] for i in order]
    again = [msgspec.structs.replace(one) for one in some]
    assert memory.note(again) == alone


def test_notes_that_nobody_asks_for_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PREPARED_MAX", 10)
    some = [CodeChange(repository="r", subject=f"x{n}", files=[]) for n in range(35)]
    features(some, [UNSEEN] * len(some))
    assert len(memory._prepared) <= 10
    assert memory.note(some) == memory.note(some)
    assert not memory._prepared.keys() & {id(one) for one in some}
