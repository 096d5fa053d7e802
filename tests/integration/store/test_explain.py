"""`pointsman explain` shows a decision in full and computes it again, also once its content is gone."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import msgspec
import psycopg
import pytest
from msgspec import Raw
from msgspec.structs import replace
from rich.console import Console

from pointsman.schemas.outcome import Answer, Answers, Outcome
from pointsman.streams.cli.agents import loaded_agents
from pointsman.streams.cli.explain import as_text, recomputed, show
from pointsman.streams.cli.offline import answer
from pointsman.streams.settings import Settings
from pointsman.streams.store import AuditStore, read
from tests.integration.store.helpers import batch, behind_the_back
from tests.support.commands import pointsman
from tests.support.outcomes import START, feedback, outcome

KEEPER = loaded_agents(Settings())["documentation-keeper"]
INPUT = msgspec.json.encode(KEEPER.examples[0])
ZERO = INPUT.replace(b'"subject":"', b'"subject":"\\u0000', 1)
"""The same with a zero character, which no column of JSON holds."""


def decided(offset: int = 0, given: bytes = INPUT, *, by_model: bool = True, **changes: Any) -> Outcome:
    """As a worker decides."""
    found = answer(Settings(), KEEPER, given)
    said = {
        side: Answer(**{name: found[side][name] for name in Answer.__struct_fields__})
        for side in ("rules", "model")
    }
    served = said["model" if by_model else "rules"]
    return replace(
        outcome(
            offset,
            unit="octo/engine",
            source="ml" if by_model else "deterministic",
            prediction=served.prediction,
            confidence=served.confidence,
            answers=Answers(rules=said["rules"], ml=said["model"]),
            versions=found["versions"],
            features=Raw(msgspec.json.encode(found["features"])),
            input=Raw(given),
        ),
        **changes,
    )


class Explained(NamedTuple):
    """A decision, the same computed again, and what people are shown."""

    stored: dict[str, Any]
    again: dict[str, Any]
    shown: str


async def explain(store: AuditStore, id_: str) -> Explained:
    """What the command does, in this process."""
    async with store.connection() as connection:
        stored = await read.decision(connection, id_)
    assert stored is not None
    again = recomputed(Settings(), stored)
    out = io.StringIO()
    show(stored, again, Console(file=out, width=200))
    return Explained(as_text(stored), again, out.getvalue())


TOLD = feedback(
    "e", label="none", comment="Ann says so", sender="ann", tool_calls=0, safety_violation="leaked", task_completed_at=START
)  # fmt: skip


async def test_everything_is_shown_and_the_same_comes_out_again(store: AuditStore) -> None:
    one = decided()
    await store.write(batch(0, 1, [one]))
    await store.write(batch(0, 1, topic="decision-feedback", feedback=[TOLD]))
    decision, again, shown = await explain(store, "d0-0")
    assert again["identical"] is True
    remembered = "they depend on what was remembered of the unit then: taken as stored"
    assert set(again["checks"].values()) == {"identical", remembered}
    row = tuple(msgspec.json.decode(bytes(one.features)).values())
    assert again["rules"] == KEEPER.rules.explain(row)
    assert set(again["model"]) == set(KEEPER.feature_names)
    assert decision["input_kept"] is True
    assert decision["features"] == msgspec.json.decode(bytes(one.features))

    versions = one.versions
    for needed in (
        *KEEPER.feature_names, one.answers.rules.decider, one.answers.ml.decider, versions.rules, versions.ml,
        f"features {versions.features}", f"pointsman {versions.pointsman}", "12.3 ms in all", "octo/engine",
        "Ann says so", "leaked (not signed: does not count)", "2026-11-01 12:00:30", "Computed again: identical",
        "ml-agent-rollout at 5 %, version 3",
    ):  # fmt: skip
        assert needed in shown, needed
    (calls,) = [line for line in shown.splitlines() if "tool_calls" in line]
    assert calls.split()[-2:] == ["0", "ann"]


@pytest.mark.parametrize("given", [INPUT, ZERO], ids=["plain", "with a zero character"])
async def test_a_change_of_features_or_answers_is_seen(
    store: AuditStore, people: psycopg.Connection, given: bytes
) -> None:
    await store.write(batch(0, 1, [decided(given=given, unit=None)]))
    before = (await explain(store, "d0-0")).again
    assert (before["identical"], before["checks"]["features"]) == (True, "identical from the stored input")
    changes = {
        "features = jsonb_set(features, ARRAY[(SELECT min(k) FROM jsonb_object_keys(features) AS k)], '77')": "features",
        "rules_score = 0.125": "rules",
        "ml_prediction = 'other'": "model",
        "ml_confidence = 0.5": "model",
    }
    for change, part in changes.items():
        people.execute("CREATE TABLE before AS SELECT * FROM ml_learning.agent_decisions")
        behind_the_back(people, f"UPDATE ml_learning.agent_decisions SET {change}")
        found = await explain(store, "d0-0")
        assert found.again["identical"] is False, change
        assert "DIFFERENT" in found.again["checks"][part]
        assert "Computed again: DIFFERENT" in found.shown
        behind_the_back(
            people,
            "DELETE FROM ml_learning.agent_decisions",
            "INSERT INTO ml_learning.agent_decisions SELECT * FROM before",
            "DROP TABLE before",
        )


async def test_after_its_content_was_deleted_it_says_so_and_still_compares_the_answers(
    store: AuditStore, migrated: str
) -> None:
    await store.write(batch(0, 1, [decided()]))
    await store.write(batch(0, 1, topic="decision-feedback", feedback=[replace(TOLD, unit="octo/engine")]))
    forgotten = pointsman({"dsn": migrated}, "audit", "forget", "--unit", "octo/engine")
    assert (forgotten.code, forgotten.out) == (
        0,
        "deleted and recorded: 1 decision_contents, 1 feedback_contents\n",
    ), forgotten.err
    done = pointsman({"dsn": migrated}, "explain", "d0-0", "--json")
    assert done.code == 0, done.err
    told = done.json()
    assert told["recomputed"]["identical"] is True
    assert told["recomputed"]["checks"]["features"] == "the input was deleted: taken as stored"
    assert (told["decision"]["input"], told["decision"]["unit"], told["decision"]["input_kept"]) == (
        None,
        None,
        False,
    )
    assert "input_bytes" not in told["decision"]
    shown = (await explain(store, "d0-0")).shown
    assert "deleted; the answers and features stay" in shown
    for needed in KEEPER.feature_names:
        assert needed in shown
    assert "octo/engine" not in shown
    assert "Ann" not in shown
    (comment,) = [line for line in shown.splitlines() if "comment" in line]
    assert comment.split()[-2:] == ["deleted", "–"]


async def test_an_answer_of_another_version_is_shown_and_not_called_the_same(store: AuditStore) -> None:
    old = decided(0)
    assert old.answers.ml is not None
    ml = replace(old.answers.ml, decider="ml@1.0")
    other_model = replace(old, answers=Answers(rules=old.answers.rules, ml=ml))
    by_rules = decided(1, by_model=False, answers=other_model.answers)
    other_features = decided(2, versions=replace(old.versions, features="documentation-keeper/0"))
    nobody = decided(3, agent="nobody")
    await store.write(batch(0, 4, [other_model, by_rules, other_features, nobody]))
    for id_, identical, part, said in (
        ("d0-0", None, "model", "answered as ml@1.0, here is "),
        ("d0-1", True, "model", "answered as ml@1.0, here is "),
        ("d0-2", None, "features", "stored by version documentation-keeper/0, here is "),
        ("d0-3", None, "agent", "nobody is not loaded"),
    ):
        _, again, shown = await explain(store, id_)
        assert again["identical"] is identical, id_
        assert again["checks"][part].startswith(said)
        assert again["model"] is None, "what another model would add is no reason of this answer"
        assert ("Computed again: not comparable" in shown) == (identical is None)
        assert all(name in shown for name in KEEPER.feature_names)


async def test_where_it_differs_the_command_ends_with_1(
    store: AuditStore, people: psycopg.Connection, migrated: str
) -> None:
    await store.write(batch(0, 1, [decided()]))
    behind_the_back(people, "UPDATE ml_learning.agent_decisions SET rules_score = 0.125")
    done = pointsman({"dsn": migrated}, "explain", "d0-0")
    assert done.code == 1
    assert "Computed again: DIFFERENT" in done.out
