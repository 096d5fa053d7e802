"""Who may know whom: imports one way, Faust in three files, SQL in SQL files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.support.sources import PRODUCT, files, imported, name, python, text, tree

BELOW = {
    "schemas": ("schemas",),
    "models": ("schemas", "models"),
    "streams": ("schemas", "models", "streams", "infra"),
    "infra": ("infra",),
}
"""Folder to what it may import of ours."""
OUTSIDE_STREAMS = (
    "aiokafka",
    "confluent_kafka",
    "psycopg",
    "psycopg_pool",
    "faust",
    "mode",
    "aiohttp",
    "typer",
    "rich",
)
"""What moves decisions and shows them; what they are knows nothing of it."""
FAUST = {"streams/app.py", "streams/live.py"}
SQL = re.compile(
    r"^\s*(SELECT\s|INSERT\s+INTO\s|UPDATE\s+\S+\s+SET\s|DELETE\s+FROM\s|CREATE\s+(TABLE|VIEW|INDEX|FUNCTION)\s"
    r"|ALTER\s|DROP\s|TRUNCATE\s|COPY\s|WITH\s+\w+\s+AS\s*\(|MERGE\s)"
)
SQL_LETTERS_MAX = 80
"""One line with one name in it is no query: the SELECT of one function, say."""


def wrong_way(module: ast.Module, folder: str) -> Iterator[str]:
    """Imports that a module of this folder must not have."""
    for each in imported(module):
        parts = each.split(".")
        if parts[0] == "pointsman" and len(parts) > 1 and parts[1] not in BELOW[folder]:
            yield each
        if folder in ("schemas", "models") and parts[0] in OUTSIDE_STREAMS:
            yield each


def sql(module: ast.Module) -> Iterator[str]:
    """Texts that are queries."""
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            statement = " ".join(node.value.split())
            if SQL.match(statement) and len(statement) > SQL_LETTERS_MAX:
                yield f"line {node.lineno}: {statement[:60]}"


def test_imports_go_one_way() -> None:
    found = {name(path): list(wrong_way(tree(path), name(path).split("/")[0])) for path in python(*PRODUCT)}
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


def test_an_import_the_other_way_would_be_seen() -> None:
    lines = (
        "from pointsman.streams.settings import Settings\nimport pointsman.models.agent\nimport aiokafka\n"
    )
    inside = f"def late():\n    {lines.splitlines()[0]}\n"
    assert set(wrong_way(ast.parse(lines), "schemas")) >= {
        "pointsman.streams.settings",
        "pointsman.models.agent",
    }
    assert "aiokafka" in wrong_way(ast.parse(lines), "models")
    assert "pointsman.models.agent" not in wrong_way(ast.parse(lines), "models")
    assert list(wrong_way(ast.parse(inside), "models"))
    assert not list(wrong_way(ast.parse(lines), "streams"))


def test_faust_stays_in_its_files() -> None:
    importing = {
        name(path)
        for path in python(*PRODUCT)
        if any(i.split(".")[0] == "faust" for i in imported(tree(path)))
    }
    assert importing == FAUST


def test_every_consumer_is_made_where_its_reading_is_bounded() -> None:
    """Another would inflate what it is sent without a bound until somebody called `install`."""
    made = {name(path) for path in python("streams") if "AIOKafkaConsumer(" in text(path)}
    assert made == {"streams/reading.py"}


def test_queries_stand_in_sql_files() -> None:
    assert {name(path): found for path in python(*PRODUCT) if (found := list(sql(tree(path))))} == {}


def test_a_query_in_python_would_be_seen() -> None:
    query = "SELECT decision_id, agent_name FROM ml_learning.agent_decisions WHERE created_at > now() - interval '1 day'"
    assert list(sql(ast.parse(f"QUERY = {query!r}")))
    assert not list(sql(ast.parse("TEXT = 'Select a file, then go on. ' * 9")))


def test_every_sql_file_says_what_it_is() -> None:
    assert [
        name(path) for path in files() if path.suffix == ".sql" and not text(path).startswith("-- ")
    ] == []
