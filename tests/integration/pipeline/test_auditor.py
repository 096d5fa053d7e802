"""What an auditor asks is answered from a real run: every question of `infra/sql/auditor.sql`, and the digests over it."""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from pointsman.models.ml import MlDecider
from pointsman.schemas.signature import HEADER, sign
from pointsman.streams.cli.agents import loaded_agents
from pointsman.streams.settings import Settings
from pointsman.streams.store.queries import load
from tests.integration.store.helpers import age
from tests.support.agents import write_agent
from tests.support.commands import pointsman
from tests.support.flaky import Flaky
from tests.support.pipeline import Pipeline, Record, request

QUESTIONS = load("auditor.sql", "pointsman.infra.sql")
KEEPER = "documentation-keeper"
AGENTS = (KEEPER, "flaky", "approver")
KEY = "0123456789abcdef0123456789abcdef"
UNIT = "somebody"
APPROVER = """

class Input(Struct, frozen=True):
    how: str = ""


def features(inputs):
    return [(1.0,) for _ in inputs]
"""


@pytest.fixture
def agents(tmp_path: Path) -> tuple[str, Flaky]:
    """Folders of an agent that fails for a while and of one that needs approval."""
    flaky = Flaky(tmp_path)
    approver = write_agent(tmp_path, "approver", APPROVER) / "agent.py"
    approver.write_text(
        approver.read_text().replace("rules=Rules(),", 'rules=Rules(),\n    policy="APPROVAL_REQUIRED",')
    )
    return f"{flaky.folder}:{approver.parent}", flaky


def inputs() -> list[dict[str, Any]]:
    """Inputs on which rules and model agree, and one at least on which they do not."""
    agent = loaded_agents(Settings())[KEEPER]
    assert agent.model is not None
    model = MlDecider.load(agent.model, agent.predictions)
    subjects = ("Add option --quiet", "Fix typo", "Refactor the parser", "Remove deprecated API")
    paths = ("src/cli.py", "src/deep/inner/part.py", "tests/test_part.py", "setup.py", "src/api/public.py")
    found: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for subject, path, added in itertools.product(subjects, paths, (1, 10, 80, 400)):
        given = {"repository": "octo/engine", "subject": subject, "files": [{"path": path, "added": added}]}
        (row,) = agent.rows([msgspec.convert(given, agent.input_type)])
        same = agent.rules.decide([row])[0].prediction == model.decide([row])[0].prediction
        found[same].append(given)
    assert found[False], "they agree on everything; ask other things"
    return [*found[False][:4], *found[True][:20]]


def told(id_: str, number: int, **changes: Any) -> tuple[bytes, bytes]:
    """Feedback on a decision of UNIT."""
    body = {
        "id": id_,
        "decision_id": f"r-{number}",
        "agent": KEEPER,
        "unit": UNIT,
        "observed_at": datetime.now(UTC).isoformat(),
    } | changes
    return UNIT.encode(), json.dumps(body).encode()


async def run(pipeline: Pipeline, agents: tuple[str, Flaky], folder: Path) -> int:
    """Everything that can happen to a decision happens once; the number of decisions."""
    loaded, flaky = agents
    config = folder / "settings.toml"
    config.write_text(f'[feedback_keys]\nmonitor = "{KEY}"\n')
    pipeline.options = {"agents": loaded, "retry_delays_ms": "200,2000,5000,5000,5000"}
    await pipeline.prepare(flag="ml-agent-rollout", percentage=100)
    await pipeline.flag("flaky-rollout", 100)
    worker = pipeline.worker("decisions,sink", config=str(config)).wait_ready()
    given = inputs()
    asked: list[Record] = [request(number, unit=UNIT, input=each) for number, each in enumerate(given)]
    asked.append(request("waits", agent="flaky", input={"how": "later"}))
    asked.append(request("approve", agent="approver", input={}))
    asked.append((b"bad", b"{"))
    pipeline.send(asked)
    await asyncio.to_thread(pipeline.read, pipeline.names.retries[0], lambda found: len(found) >= 1)
    flaky.open()
    count = len(given) + 2
    await asyncio.to_thread(pipeline.wait_rows, "SELECT count(*) FROM ml_learning.agent_decisions", count)
    early = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    pipeline.send(
        [
            *(told(f"label-{number}", number, label="none") for number in range(8)),
            told("again", 0, label="update", observed_at=early),
            told("signal", 1, signal="reverted", comment="not so"),
            told("correction", 2, correction="it does"),
            told("claimed", 3, critical_error="says who?"),
        ],
        pipeline.names.feedback,
    )
    key, value = told("signed", 4, safety_violation="a password", sender="monitor")
    pipeline._producer.produce(pipeline.names.feedback, value, key, headers=[(HEADER, sign(KEY, value))])
    pipeline._producer.flush(30)
    rows = 8 + 1 + 2 + 1 + 1 + 1
    await asyncio.to_thread(pipeline.wait_rows, "SELECT count(*) FROM ml_learning.decision_feedback", rows)
    await asyncio.to_thread(
        pipeline.wait_rows, "SELECT coalesce(sum(outcomes), 0) FROM ml_learning.lane_ledger", count - 1
    )
    await asyncio.to_thread(pipeline.wait_rows, "SELECT count(*) FROM ml_learning.dead_letters", 1)
    assert worker.stop() == 0
    return count


def answers(connection: psycopg.Connection, question: str) -> int:
    """Rows of a question, asked of each agent until one has some."""
    query = re.sub(rb":'(\w+)'", rb"%(\1)s", QUESTIONS[question])
    now = datetime.now(UTC)
    asked = {
        "since": now - timedelta(days=9),
        "before": now + timedelta(days=1),
        "moment": now,
        "decision": "r-0",
        "unit": UNIT,
    }
    given = ({**asked, "agent": agent} for agent in AGENTS)
    return next((len(rows) for each in given if (rows := connection.execute(query, each).fetchall())), 0)


@pytest.mark.timeout(240)
async def test_every_question_of_an_auditor_is_answered_from_a_real_run(
    pipeline: Pipeline, agents: tuple[str, Flaky], tmp_path: Path
) -> None:
    count = await run(pipeline, agents, tmp_path)
    dsn = {"dsn": pipeline.dsn}
    with psycopg.connect(pipeline.dsn, autocommit=True) as connection:
        age(connection, 2)
        assert pointsman(dsn, "audit", "digest").code == 0
        exported = pointsman(
            dsn,
            "audit",
            "export",
            "--from",
            "2020-01-01T00:00:00Z",
            "--to",
            "2100-01-01T00:00:00Z",
            "--out",
            "-",
        )
        rows = list(csv.DictReader(io.StringIO(exported.out)))
        assert len(rows) == count, exported.err
        assert {row["unit"] for row in rows} == {UNIT, ""}
        unasked = {"deletions", "was_it_forgotten", "without_content"}
        assert [name for name in QUESTIONS if not answers(connection, name)] == sorted(unasked)
        assert pointsman(dsn, "audit", "forget", "--unit", UNIT).code == 0
        assert [name for name in QUESTIONS if not answers(connection, name)] == []
    verified = pointsman(dsn, "audit", "verify")
    assert verified.code == 0, verified.out
    checked = pointsman(dsn, "db", "check", "--grace", "0")
    assert checked.code == 0, checked.out
