"""A stored decision in full, and the same computed again from what was stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pointsman.schemas.errors import PointsmanError
from pointsman.streams.cli import reach
from pointsman.streams.cli.agents import loaded_agents
from pointsman.streams.cli.failure import NOTHING_RUNS
from pointsman.streams.cli.offline import contributions
from pointsman.streams.cli.out import table
from pointsman.streams.errors import WorkerNotRunning
from pointsman.streams.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from pointsman.models.agent import Agent
    from pointsman.models.decider import Decider, Row


class NoSuchDecision(PointsmanError):
    """No database that was looked into has a decision of that id."""


async def find(settings: Settings, decision_id: str) -> dict[str, Any]:
    """Everything about a decision. Raises `NoSuchDecision`, and `WorkerNotRunning` where there is no database at all."""
    dsn = reach.dsn(settings)
    if dsn:
        found = await _read(dsn, decision_id)
        if found is None:
            msg = f"no decision {decision_id}; rows come within seconds of the outcome"
            raise NoSuchDecision(msg)
        return found
    kept = reach.kept_databases(settings)
    if not kept:
        raise WorkerNotRunning(NOTHING_RUNS)
    for folder in kept:
        found = await _read_kept(folder, decision_id)
        if found is not None:
            return found
    msg = f"no decision {decision_id} in what `demo` and `up` left in {settings.data_dir}"
    raise NoSuchDecision(msg)


async def _read_kept(folder: Path, decision_id: str) -> dict[str, Any] | None:
    from pointsman.streams.embedded import EmbeddedPostgres  # noqa: PLC0415

    async with EmbeddedPostgres(folder) as server:
        return await _read(server.dsn, decision_id)


async def _read(dsn: str, decision_id: str) -> dict[str, Any] | None:
    from pointsman.streams.store import read  # noqa: PLC0415
    from pointsman.streams.store.errors import translated  # noqa: PLC0415

    async with reach.connection(dsn) as connected, translated():
        return await read.decision(connected, decision_id)


def recomputed(settings: Settings, stored: dict[str, Any]) -> dict[str, Any]:
    """The decision computed again: features from the input, both answers from the stored features.

    ``identical`` is None where nothing could be compared (another version is installed, the agent is not loaded).
    """
    agent = loaded_agents(settings).get(stored["agent_name"])
    if agent is None:
        return {
            "identical": None,
            "checks": {"agent": f"{stored['agent_name']} is not loaded (setting agents)"},
        }
    found: dict[str, Any] = {"checks": {}, "rules": None, "model": None}
    same: list[bool] = []
    row = _row(agent, stored)
    if row is None:
        found["checks"]["features"] = (
            f"stored by version {stored['features_version']}, here is {agent.feature_version}"
        )
        return {**found, "identical": None}
    found["checks"]["features"] = _features_check(agent, stored, row, same)
    found["rules"] = dict(agent.rules.explain(row))
    found["checks"]["rules"] = _check(agent.rules, row, _answer(stored, "rules"), same)
    model = _model(agent)
    if model is not None:
        found["model"] = dict(model.explain(row))
        found["checks"]["model"] = _check(model, row, _model_answer(stored), same)
    return {**found, "identical": all(same) if same else None}


def _row(agent: Agent, stored: dict[str, Any]) -> Row | None:
    features = stored["features"]
    if stored["features_version"] != agent.feature_version or set(features) != set(agent.feature_names):
        return None
    return tuple(float(features[name]) for name in agent.feature_names)


def _features_check(agent: Agent, stored: dict[str, Any], row: Row, same: list[bool]) -> str:
    import msgspec  # noqa: PLC0415

    if stored.get("input") is None:
        return "the input was deleted: taken as stored"
    (again,) = agent.features([msgspec.convert(stored["input"], agent.input_type)])
    same.append(again == row)
    if again == row:
        return "identical from the stored input"
    moved = [name for name, a, b in zip(agent.feature_names, row, again, strict=True) if a != b]
    return f"DIFFERENT from the stored input: {', '.join(moved)}"


def _model(agent: Agent) -> Any:
    from pointsman.models.ml import MlDecider  # noqa: PLC0415

    return MlDecider.load(agent.model, agent.predictions) if agent.model is not None else None


def _answer(stored: dict[str, Any], side: str) -> dict[str, Any]:
    fields = ("decider", "prediction", "score", "confidence", "reason")
    return {field: stored[f"{side}_{field}"] for field in fields}


def _model_answer(stored: dict[str, Any]) -> dict[str, Any] | None:
    """In the outcome, or given later as a shadow."""
    if stored["ml_decider"] is not None:
        return _answer(stored, "ml")
    return stored["shadows"][0] if stored["shadows"] else None


def _check(decider: Decider, row: Row, answer: dict[str, Any] | None, same: list[bool]) -> str:
    from pointsman.models.decider import decider_id  # noqa: PLC0415

    if answer is None:
        return "gave no answer then"
    if answer["decider"] != decider_id(decider):
        return f"answered as {answer['decider']}, here is {decider_id(decider)}: not compared"
    (again,) = decider.decide([row])
    identical = all(getattr(again, field) == answer[field] for field in ("prediction", "score", "confidence"))
    same.append(identical)
    return "identical" if identical else f"DIFFERENT: now {again.prediction} with score {again.score}"


def show(stored: dict[str, Any], again: dict[str, Any], out: Console) -> None:
    """Print it for people."""
    out.print(table(f"Decision {stored['decision_id']}", ("what", "value"), _facts(stored)))
    answers = [_answer(stored, "rules"), _model_answer(stored)]
    columns = ("", "answer", "score", "confidence", "reason")
    told = [
        (a["decider"], a["prediction"], f"{a['score']:.6f}", f"{a['confidence']:.6f}", a["reason"])
        for a in answers
        if a is not None
    ]
    out.print(table("Both answers", columns, told, right=("score", "confidence")))
    if again.get("rules") is not None:
        sides = [{"contributions": again["rules"]}, {"contributions": again["model"] or {}}]
        out.print(contributions(sides[0], sides[1], stored["features"]))
    if stored["feedback"]:
        events = [
            (
                f"{e['observed_at']:%Y-%m-%d %H:%M}",
                e["kind"],
                e["value_text"] or e["value_number"] or e["value_time"],
                e["sender"],
            )
            for e in stored["feedback"]
        ]
        out.print(table("What became known later", ("when", "what", "value", "by"), events))
    verdict = {True: "identical", False: "DIFFERENT", None: "not comparable"}[again["identical"]]
    out.print(table(f"Computed again: {verdict}", ("part", "result"), again["checks"].items()))


def _facts(stored: dict[str, Any]) -> list[tuple[str, Any]]:
    asked = stored["requested_at"]
    served = "the model" if stored["source"] == "ml" else "the rules"
    fallback = f", as fallback: {stored['fallback_reason']}" if stored["fallback_reason"] else ""
    given = stored.get("input") or {}
    subject = given.get("subject") if isinstance(given, dict) else None
    versions = (
        f"pointsman {stored['pointsman_version']}",
        f"features {stored['features_version']}",
        stored["rules_version"],
        stored["ml_version"] or "no model",
    )
    model_ms = "" if stored["model_ms"] is None else f", {stored['model_ms']:.1f} ms for the model"
    return [
        ("agent", stored["agent_name"]),
        *((("about", f"{given.get('repository', '')}: {subject}"),) if subject else ()),
        ("unit", stored.get("unit")),
        ("asked for the time", asked and f"{asked:%Y-%m-%d %H:%M:%S %Z}"),
        ("decided", f"{stored['created_at']:%Y-%m-%d %H:%M:%S.%f %Z}"),
        ("answer", f"{stored['prediction']} by {served}{fallback} (arm {stored['arm']}), {stored['status']}"),
        ("action", f"{stored['action']}, confidence {stored['confidence']:.3f}"),
        (
            "flag",
            f"{stored['flag_name']} at {stored['flag_percentage']:g} %, version {stored['flag_version']}",
        ),
        ("versions", ", ".join(versions)),
        (
            "timings",
            f"{stored['total_ms']:.1f} ms in all, {stored['features_ms']:.3f} ms for features{model_ms}",
        ),
        ("place", f"{stored['topic']}[{stored['partition']}] at {stored['request_offset']}"),
        *_history(stored),
        ("trace", stored["trace_id"]),
    ]


def _history(stored: dict[str, Any]) -> list[tuple[str, Any]]:
    """How it came to be answered, where that was not at once."""
    found: list[tuple[str, Any]] = []
    if stored["attempts"] > 1:
        found.append(
            ("answered", f"at attempt {stored['attempts']}, the first one failed: {stored['first_reason']}")
        )
    if stored["redriven"]:
        found.append(
            (
                "sent again",
                f"{stored['redriven']} x from the dead letters, first for {stored['first_reason']}",
            )
        )
    return found
