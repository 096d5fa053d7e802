"""Features of documentation-keeper: what they say, and what they must not know."""

from __future__ import annotations

from math import isfinite

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pointsman.models.agents.documentation_keeper import AGENT
from pointsman.models.agents.documentation_keeper.features import NAMES
from pointsman.models.agents.documentation_keeper.request import FILES_MAX, LINES_MAX, ChangedFile, CodeChange
from pointsman.models.agents.documentation_keeper.rules import CONDITIONS, Rules
from pointsman.models.agents.documentation_keeper.subject import mask, signals

features = AGENT.rows
CODE = [
    "src/a.py",
    "src/_b.py",
    "lib/cli/main.go",
    "tests/test_a.py",
    "Makefile",
    "examples/x.py",
    "logo.png",
    "ci/x.sh",
]
DOCUMENTATION = [
    "README.md",
    "docs/a.rst",
    "CHANGES.rst",
    "AUTHORS",
    "docs/conf.py",
    "CONTRIBUTING.md",
    "mkdocs.yml",
]
WORDS = ["docs", "README", "changelog", "Documentation", "typo", "docstrings", "tutorial"]


def files(paths: list[str]) -> st.SearchStrategy[list[ChangedFile]]:
    one = st.builds(
        ChangedFile,
        path=st.sampled_from(paths),
        added=st.integers(0, LINES_MAX),
        removed=st.integers(0, LINES_MAX),
        status=st.sampled_from("AMDRCT"),
        binary=st.booleans(),
    )
    return st.lists(one, max_size=12)


changes = st.builds(
    CodeChange,
    repository=st.just("example/one"),
    subject=st.text(max_size=80),
    files=files(CODE + DOCUMENTATION),
    body_lines=st.integers(0, 100_000),
)


def named(change: CodeChange) -> dict[str, float]:
    return dict(zip(NAMES, features([change])[0], strict=True))


def change(subject: str = "", *some: ChangedFile, **more: int) -> CodeChange:
    return CodeChange(repository="example/one", subject=subject, files=list(some), **more)


@given(st.lists(changes, max_size=8))
def test_rows_are_finite_as_long_as_the_names_and_of_their_own_input_only(some: list[CodeChange]) -> None:
    rows = features(some)
    assert [features([one])[0] for one in some] == rows
    assert all(len(row) == len(NAMES) and all(isfinite(value) for value in row) for row in rows)


@given(changes, files(DOCUMENTATION), st.randoms())
def test_documentation_files_change_no_feature(one: CodeChange, added: list[ChangedFile], random) -> None:
    mixed = [*one.files, *added]
    random.shuffle(mixed)
    order = {id(file): i for i, file in enumerate(mixed)}
    with_docs = msgspec.structs.replace(one, files=mixed)
    without = [f for f in sorted(mixed, key=lambda f: order[id(f)]) if f.path not in DOCUMENTATION]
    assert features([with_docs]) == features([msgspec.structs.replace(one, files=without)])


def test_a_file_moved_out_of_the_docs_is_documentation_too() -> None:
    moved = ChangedFile(path="src/a.py", previous="docs/a.py", status="R", added=3)
    assert features([change("x", moved)]) == features([change("x")])


@given(
    st.lists(st.sampled_from(["Fix", "crash", "option", "add", "x1", "é", *WORDS]), max_size=10), st.data()
)
def test_documentation_words_change_no_feature(words: list[str], data: st.DataObject) -> None:
    separator = data.draw(st.sampled_from([" ", ", ", "/", "-", "_", ": "]))
    without = [word for word in words if word not in WORDS]
    assert features([change(separator.join(words))]) == features([change(separator.join(without))])


@given(st.text(max_size=120))
def test_masking_changes_no_signal_and_leaves_none_of_the_words(subject: str) -> None:
    masked = mask(subject)
    assert signals(masked) == signals(subject)
    assert mask(masked) == masked


def test_the_mask_hides_words_and_signs_of_documentation() -> None:
    assert mask("\N{MEMO} Update README and the docs for docker") == "_ Update _ and the _ for docker"


def test_numbers_count_what_their_names_say() -> None:
    found = named(
        change(
            "Add option to fix the parser",
            ChangedFile(path="src/app/cli.py", added=30, removed=10, status="A"),
            ChangedFile(path="src/app/_inner.py", added=0, removed=60),
            ChangedFile(path="tests/test_cli.py", added=7),
            ChangedFile(path="pyproject.toml", added=1),
            body_lines=3,
        )
    )
    expected = {
        "source_files": 2,
        "test_files": 1,
        "config_files": 1,
        "source_added": 30,
        "source_removed": 70,
        "source_growth": -40 / 101,
        "largest_share": 0.6,
        "test_added": 7,
        "sources_new": 1,
        "public_files": 1,
        "public_added": 30,
        "public_new": 1,
        "interface_files": 1,
        "interface_added": 30,
        "directories": 3,
        "depth": 1.0,
        "subject_words": 6,
        "subject_fix": 1.0,
        "subject_feature": 1.0,
        "subject_setting": 1.0,
        "subject_upkeep": 0.0,
        "body_lines": 3,
    }
    assert {name: found[name] for name in expected} == expected


def test_the_largest_request_is_within_the_contract() -> None:
    biggest = change(
        "w " * 250, *[ChangedFile(path="a" * 1000, added=LINES_MAX, removed=LINES_MAX)] * FILES_MAX
    )
    decoded = msgspec.json.decode(msgspec.json.encode(biggest), type=CodeChange)
    assert all(isfinite(value) for value in features([decoded])[0])


@given(st.lists(changes, min_size=1, max_size=6))
def test_rules_explain_exactly_what_makes_their_score(some: list[CodeChange]) -> None:
    rules = Rules()
    rows = features(some)
    for row, answer in zip(rows, rules.decide(rows), strict=True):
        from math import exp

        from pointsman.models.agents.documentation_keeper.rules import INTERCEPT

        effect = sum(rules.explain(row).values())
        assert abs(answer.score - 1 / (1 + exp(-(effect + INTERCEPT)))) < 1e-5


def test_every_condition_moves_the_score_its_own_way() -> None:
    plain = list(features([change()])[0])
    plain[NAMES.index("paths_known")] = 1
    before = Rules().decide([tuple(plain)])[0].score
    for condition in CONDITIONS:
        row = list(plain)
        row[NAMES.index(condition.feature)] = 0 if condition.below else 99
        after = Rules().decide([tuple(row)])[0].score
        assert (after > before) == (condition.points > 0), condition
        assert after != before, condition


def test_reasons_are_the_conditions_that_speak_for_the_answer() -> None:
    option = change(
        "Add option", ChangedFile(path="src/a.py", added=60), ChangedFile(path="setup.py", added=1)
    )
    answer = Rules().decide(features([option]))[0]
    assert answer.prediction == "docs_needed"
    assert answer.reason.startswith("configuration or packaging changed; subject speaks of something new")
    fix = Rules().decide(features([change("Fix crash", ChangedFile(path="src/a.py", added=1))]))[0]
    assert (fix.prediction, fix.reason) == ("docs_not_needed", "subject speaks of a fix")
