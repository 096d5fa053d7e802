"""The demo's result as a person wants to look at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pointsman.models.evaluate import Estimate
from pointsman.streams.cli.out import table
from pointsman.streams.demo.figures import Result, Side

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SOURCES = {"ml": "model", "deterministic": "rules"}


def show(result: Result, console: Console) -> None:
    """Print all tables and remarks."""
    console.print()
    console.print(heading(result), style="bold", markup=False)
    for part in (quality(result), memory(result), decisions(result), accounts(result)):
        if part is not None:
            console.print(part)
    for note in [*verdict(result), *result.notes]:
        console.print(f"• {note}", markup=False)
    if result.explain:
        console.print("\nLook further:", style="bold")
        console.print(f"  {result.explain}", markup=False)


def heading(result: Result) -> str:
    """One line: what was replayed."""
    where = f" of {result.repositories} repositories" if result.repositories > 1 else ""
    return (
        f"{result.requests:,} decisions from {result.commits:,} commits{where}: {result.input}, "
        f"{result.since:%Y-%m-%d} to {result.until:%Y-%m-%d}"
    )


def quality(result: Result) -> Table | None:
    """Rules against model on the same decisions."""
    twins = result.twins
    if twins is None:
        return None
    rows = [
        ("accuracy", twins.rules.accuracy, twins.model.accuracy, twins.model_minus_rules.accuracy),
        (
            "balanced accuracy",
            twins.rules.balanced_accuracy,
            twins.model.balanced_accuracy,
            twins.model_minus_rules.balanced_accuracy,
        ),
        (
            "success (errors by cost)",
            twins.rules.success,
            twins.model.success,
            twins.model_minus_rules.success,
        ),
    ]
    cells = [(name, interval(rules), interval(model), points(by)) for name, rules, model, by in rows]
    title = f"Rules and model on the same {twins.n:,} decisions ({twins.positives:,} needed documentation)"
    columns = ("95 % intervals", "rules", f"model {result.model or ''}".strip(), "model − rules, in points")
    return table(title, columns, cells, right=columns[1:])


def memory(result: Result) -> Table | None:
    """What both gain by what was remembered."""
    found = result.memory
    if found is None:
        return None
    measures = (
        ("accuracy", "accuracy"),
        ("balanced accuracy", "balanced_accuracy"),
        ("success (errors by cost)", "success"),
    )
    cells = [
        (name, points(getattr(found.rules, of)), points(getattr(found.model, of))) for name, of in measures
    ]
    columns = ("in points", "rules", "model")
    return table("What the repository's past adds, on the same decisions", columns, cells, right=columns[1:])


def decisions(result: Result) -> Table:
    """Who answered, how fast."""
    rows = [_side(side, result) for side in result.sides if side.source is not None]
    rows += [("all", "", *_side(side, result)[2:]) for side in result.sides if side.source is None]
    columns = (
        "answered by",
        "arm",
        "decisions",
        "share",
        "fallbacks",
        "validate",
        "escalate",
        "p50 ms",
        "p95",
        "p99",
    )
    return table(
        "Decisions, and milliseconds from request to outcome under full load",
        columns,
        rows,
        right=columns[2:],
    )


def _side(side: Side, result: Result) -> tuple[str, ...]:
    return (
        SOURCES.get(side.source or "", "all"),
        side.arm or "",
        f"{side.decisions:,}",
        f"{100 * side.decisions / max(1, result.rows):.1f} %",
        f"{side.fallbacks:,}",
        f"{side.validations:,}",
        f"{side.escalations:,}",
        *("–" if value is None else f"{value:.1f}" for value in (side.p50_ms, side.p95_ms, side.p99_ms)),
    )


def accounts(result: Result) -> Table:
    """Where everything went."""
    fallbacks = ", ".join(f"{reason} {count:,}" for reason, count in result.fallbacks.items()) or "none"
    signals = ", ".join(f"{kind} {count:,}" for kind, count in result.signals.items()) or "none"
    ledger = result.ledger
    parts = ("requests", "outcomes", "dead_letters", "duplicates")
    told = [f"{ledger[part]:,} {part.replace('_', ' ')}" for part in parts]
    rows = [
        ("requests = outcomes = rows", f"{result.requests:,} = {result.outcomes:,} = {result.rows:,}"),
        ("ledger", f"{', '.join(told)}; difference {ledger['difference']}"),
        ("truth that came later", f"{result.labelled:,} labels in {result.feedback:,} feedback events"),
        ("signals in the history", signals),
        ("fallbacks by reason", fallbacks),
        ("throughput", f"{result.per_second:,.0f} decisions/s over {result.seconds:.1f} s, paced"),
    ]
    return table("Accounts", ("what", "figures"), rows)


def verdict(result: Result) -> Iterator[str]:
    """Sentences that the figures allow."""
    twins = result.twins
    if twins is not None:
        by = twins.model_minus_rules.success
        if by.low > 0:
            yield f"On these decisions the model does better than the rules, by {points(by)} points of success."
        elif by.high < 0:
            yield f"On these decisions the rules do better than the model, by {points(by)} points of success."
        else:
            yield f"These decisions do not tell which is better: model − rules is {points(by)} points of success."
    if result.differences:
        yield f"NOT ACCOUNTED FOR: {'; '.join(result.differences)}"


def interval(estimate: Estimate) -> str:
    """A share in percent with its interval."""
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.1f}–{100 * estimate.high:.1f})"


def points(estimate: Estimate) -> str:
    """A difference in percentage points with its interval."""
    return f"{100 * estimate.value:+.1f} ({100 * estimate.low:+.1f} to {100 * estimate.high:+.1f})"
