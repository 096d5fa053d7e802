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

    ``identical`` is False where any part differs, and None where the answer that was served could not be compared
    (another version is installed, the agent is not loaded).
    """
    from pointsman.models.artifact import ModelArtifactError  # noqa: PLC0415

    found: dict[str, Any] = {"identical": None, "checks": {}, "rules": None, "model": None}
    agent = loaded_agents(settings).get(stored["agent_name"])
    if agent is None:
        found["checks"]["agent"] = f"{stored['agent_name']} is not loaded (setting agents)"
        return found
    row = _row(agent, stored)
    if row is None:
        found["checks"]["features"] = (
            f"stored by version {stored['features_version']}, here is {agent.feature_version}"
        )
        return found
    same: dict[str, bool] = {}
    found["checks"]["features"] = _features_check(agent, stored, row, same)
    deciders: list[tuple[str, Decider, dict[str, Any] | None]] = [
        ("rules", agent.rules, _answer(stored, "rules"))
    ]
    try:
        model = _model(agent)
    except ModelArtifactError as error:
        found["checks"]["model"] = f"cannot be loaded here: {error.problem}"
    else:
        if model is not None:
            deciders.append(("model", model, _model_answer(stored)))
    for part, decider, answer in deciders:
        found[part] = _effects(decider, row, answer)
        found["checks"][part] = _check(part, decider, row, answer, same)
    served = "model" if stored["source"] == "ml" else "rules"
    found["identical"] = all(same.values()) if served in same or not all(same.values()) else None
    return found


def _effects(decider: Decider, row: Row, answer: dict[str, Any] | None) -> dict[str, float] | None:
    """What each feature added to an answer; None where another version gave it, or none did."""
    from pointsman.models.decider import decider_id  # noqa: PLC0415

    if answer is None or answer["decider"] != decider_id(decider):
        return None
    return dict(decider.explain(row))


def _row(agent: Agent, stored: dict[str, Any]) -> Row | None:
    features = stored["features"]
    if stored["features_version"] != agent.feature_version or set(features) != set(agent.feature_names):
        return None
    return tuple(float(features[name]) for name in agent.feature_names)


def _features_check(agent: Agent, stored: dict[str, Any], row: Row, same: dict[str, bool]) -> str:
    from pointsman.schemas.codec import Decoder  # noqa: PLC0415
    from pointsman.schemas.errors import InvalidMessage  # noqa: PLC0415

    if stored["input_bytes"] is None:
        return "the input was deleted: taken as stored"
    if agent.state is not None and stored["unit"] is not None:
        return "they depend on what was remembered of the unit then: taken as stored"
    try:
        given = Decoder(agent.input_type, "input").decode(stored["input_bytes"])
    except InvalidMessage as error:
        return f"the agent's contract is another now ({error}): taken as stored"
    (again,) = agent.rows([given])
    same["features"] = again == row
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


def _check(
    part: str, decider: Decider, row: Row, answer: dict[str, Any] | None, same: dict[str, bool]
) -> str:
    from pointsman.models.decider import decider_id  # noqa: PLC0415

    if answer is None:
        return "gave no answer then"
    if answer["decider"] != decider_id(decider):
        return f"answered as {answer['decider']}, here is {decider_id(decider)}: not compared"
    (again,) = decider.decide([row])
    identical = all(getattr(again, field) == answer[field] for field in ("prediction", "score", "confidence"))
    same[part] = identical
    return "identical" if identical else f"DIFFERENT: now {again.prediction} with score {again.score}"


def as_text(stored: dict[str, Any]) -> dict[str, Any]:
    """The decision for JSON: ``input_kept`` says whether its input is there; one that no column holds is its text."""
    plain = {name: value for name, value in stored.items() if name != "input_bytes"}
    given = stored["input_bytes"]
    if plain["input"] is None and given is not None:
        plain["input"] = given.decode(errors="replace")
    return {**plain, "input_kept": given is not None}


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
    sides = [{"contributions": again.get(side) or {}} for side in ("rules", "model")]
    out.print(contributions(sides[0], sides[1], stored["features"], shown=None))
    if stored["feedback"]:
        events = [
            (f"{e['observed_at']:%Y-%m-%d %H:%M}", e["kind"], _value(e), e["sender"])
            for e in stored["feedback"]
        ]
        out.print(table("What became known later", ("when", "what", "value", "by"), events))
    verdict = {True: "identical", False: "DIFFERENT", None: "not comparable"}[again["identical"]]
    out.print(table(f"Computed again: {verdict}", ("part", "result"), again["checks"].items()))


def _value(event: dict[str, Any]) -> Any:
    """What a feedback event says, and whether it counts."""
    from pointsman.streams.store.truth import FREE_TEXT, SIGNED  # noqa: PLC0415

    values = (event[name] for name in ("value_text", "value_number", "value_time"))
    value = next((value for value in values if value is not None), None)
    if value is None and event["kind"] in FREE_TEXT and not event["content_kept"]:
        value = "deleted"
    if event["kind"] in SIGNED and not event["authorised"]:
        return f"{value} (not signed: does not count)"
    return value


def _facts(stored: dict[str, Any]) -> list[tuple[str, Any]]:
    asked = stored["requested_at"]
    served = "the model" if stored["source"] == "ml" else "the rules"
    fallback = f", as fallback: {stored['fallback_reason']}" if stored["fallback_reason"] else ""
    given = stored["input"] or {}
    kept = stored["input_bytes"] is not None
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
        ("unit", stored["unit"]) if kept else ("unit and input", "deleted; the answers and features stay"),
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
