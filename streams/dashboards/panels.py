"""What each dashboard shows: panels and their queries, for any agent. Data, and no word of Grafana's or the page's own."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from msgspec import Struct

from pointsman.streams.store.queries import load

_SQL: Final = load("panels.sql", "pointsman.streams.dashboards")
RUNBOOKS: Final = "dashboards.md"
"""Of the documentation: each panel has a section there, named like it."""
AGENT: Final = "$agent"
POINTS: Final = 60
"""Of a line, about: a panel is half a screen wide, and so from two days on sums of whole hours will do."""
FEWER: Final = 36
"""Where each minute has a whole histogram: there hours will do from a day on."""
ONE: Final = 12
"""Of a panel without time, whose points are only how finely it adds up: from half a day on, hours."""
Kind: TypeAlias = Literal["lines", "stacked", "bars"]


class Query(Struct, frozen=True, kw_only=True):
    """One query of a panel; either SQL (time, metric, value) or PromQL."""

    name: str
    sql: str = ""
    promql: str = ""
    legend: str = ""
    """Of PromQL, in Prometheus' words: ``{{lane}}``."""


class Threshold(Struct, frozen=True):
    """From ``value`` on, in the panel's unit, it is ``color``."""

    value: float
    color: Literal["green", "orange", "red"]


class Panel(Struct, frozen=True, kw_only=True):
    """One picture. ``unit`` is Grafana's word for it."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = "lines"
    x: str = "time"
    """What lies on the horizontal axis."""
    least: float | None = None
    greatest: float | None = None
    points: int = POINTS
    thresholds: tuple[Threshold, ...] = ()
    """The first holds from below on, whatever its value."""

    @property
    def runbook(self) -> str:
        """Where people read what it means and what to do, below the documentation's own place."""
        return f"{RUNBOOKS}#{slug(self.title)}"


class Dashboard(Struct, frozen=True, kw_only=True):
    """Some panels. ``uid`` is stable: links and alerts point to it; it is also the title's slug."""

    title: str
    description: str
    panels: tuple[Panel, ...]
    changes: Query | None = None
    """Moments to be marked in all panels: (time, text)."""

    @property
    def uid(self) -> str:
        """The title as Grafana writes it in addresses."""
        return slug(self.title)


def slug(title: str) -> str:
    """Small letters and digits, all else as one hyphen."""
    words = "".join(letter if letter.isalnum() else " " for letter in title.lower()).split()
    return "-".join(words)


def sql(name: str) -> Query:
    """A query of `panels.sql`."""
    return Query(name=name, sql=_SQL[name].decode())


def prom(name: str, promql: str, legend: str = "") -> Query:
    """A query to Prometheus."""
    return Query(name=name, promql=promql, legend=legend or name)


def _of_lane(metric: str, lane: str) -> str:
    """The least of those workers that run the lane."""
    return f'min({metric} and on (instance) pointsman_partitions{{lane="{lane}"}})'


_SHARE_IS_BAD: Final = (Threshold(0, "red"), Threshold(0.75, "orange"), Threshold(0.85, "green"))


_STAGE: Final = Panel(
    title="Rollout stage",
    description="Percentage that the flag wanted for the candidate, and what it was given. Vertical marks: the flag was changed.",
    unit="percent",
    least=0,
    greatest=100,
    queries=(sql("stage"),),
)

_MODEL: Final = (
    Panel(
        title="Decisions by source",
        description="Final decisions a second, by what answered. Rules in the model's place: the candidate's, where the model failed.",
        unit="ops",
        kind="stacked",
        least=0,
        queries=(sql("decisions_by_source"),),
    ),
    Panel(
        title="Accuracy of both arms",
        description="Share of labelled decisions whose served answer was right, with 95 % intervals (Wilson); what the scores lead to expect of all decisions, labelled or not (CBPE); and the share that is labelled.",
        unit="percentunit",
        least=0,
        greatest=1,
        queries=(sql("accuracy"), sql("expected_accuracy"), sql("label_coverage")),
    ),
    Panel(
        title="Latency",
        description="From the request's record time to its outcome, by quantile, within 1 %.",
        unit="ms",
        least=0,
        points=FEWER,
        thresholds=(Threshold(0, "green"), Threshold(100, "red")),
        queries=(sql("latency"),),
    ),
    Panel(
        title="Satisfaction",
        description="Weighted mean of ratings and of what people did, from 1 to 5, by arm.",
        unit="short",
        least=1,
        greatest=5,
        thresholds=(Threshold(0, "red"), Threshold(3, "orange"), Threshold(3.5, "green")),
        queries=(sql("satisfaction"),),
    ),
    Panel(
        title="Confidence",
        description="How sure the answers served were: share of each arm's decisions by bands of 0.02.",
        unit="percentunit",
        kind="bars",
        x="confidence",
        points=ONE,
        least=0,
        queries=(sql("confidence"),),
    ),
    Panel(
        title="Fallbacks and errors",
        description="A second: decisions that the rules made in the model's place, by reason; and requests whose features could not be computed.",
        unit="ops",
        least=0,
        queries=(
            sql("fallbacks"),
            prom(
                "feature errors",
                f'sum(rate(pointsman_feature_errors_total{{agent="{AGENT}"}}[5m])) or vector(0)',
            ),
        ),
    ),
    Panel(
        title="Shadow agreement",
        description="Share of the decisions answered by both arms, at once or in shadow, in which they said the same.",
        unit="percentunit",
        least=0,
        greatest=1,
        queries=(sql("agreement"),),
    ),
    _STAGE,
)


def of_model(agent: str) -> Dashboard:
    """How an agent's model fares beside its rules: eight panels."""
    return Dashboard(
        title=f"{agent} ML",
        description=f"How the model of {agent} fares beside its rules, by the minute in which each decision was made.",
        changes=sql("stage_changes"),
        panels=_MODEL,
    )


_ROLLOUT: Final = (
    Panel(
        title="Evidence so far",
        description="Mean success of labelled decisions from the window's start up to each moment, with 95 % intervals: evidence as it grows.",
        unit="percentunit",
        least=0,
        greatest=1,
        thresholds=_SHARE_IS_BAD,
        queries=(sql("success_until_now"),),
    ),
    Panel(
        title="Labels so far",
        description="Labelled decisions from the window's start up to each moment, by arm.",
        unit="short",
        least=0,
        queries=(sql("labels_until_now"),),
    ),
    Panel(
        title="Success",
        description="Mean success of labelled decisions by step, with 95 % intervals. Set the window to an hour or a day for the gates' figures.",
        unit="percentunit",
        least=0,
        greatest=1,
        thresholds=_SHARE_IS_BAD,
        queries=(sql("success"),),
    ),
    Panel(
        title="Success of the last hour and day",
        description="The same as the alerts see it.",
        unit="percentunit",
        least=0,
        greatest=1,
        thresholds=_SHARE_IS_BAD,
        queries=(
            prom(
                "success",
                f'max by (arm, window) (pointsman_success_ratio{{agent="{AGENT}"}})',
                "{{arm}} {{window}}",
            ),
        ),
    ),
    Panel(
        title="Complaints and corrections",
        description="Decisions that somebody complained of or corrected, by arm.",
        unit="short",
        kind="bars",
        least=0,
        queries=(sql("complaints"),),
    ),
    Panel(
        title="Violations and critical errors",
        description="Signed reports only. One is reason enough to go back.",
        unit="short",
        kind="bars",
        least=0,
        thresholds=(Threshold(0, "green"), Threshold(1, "red")),
        queries=(sql("violations"),),
    ),
    Panel(
        title="Completion time",
        description="Mean time that the task took that a decision was for, by arm.",
        unit="s",
        least=0,
        queries=(sql("completion_time"),),
    ),
    Panel(
        title="Tokens a task",
        description="Mean number of tokens, by arm.",
        unit="short",
        least=0,
        queries=(sql("tokens"),),
    ),
    Panel(
        title="Tool efficiency",
        description="Share of tool calls that were the right ones, by arm.",
        unit="percentunit",
        least=0,
        greatest=1,
        queries=(sql("tool_efficiency"),),
    ),
    Panel(
        title="Cost a task",
        description="Mean cost, in the currency that the deployment uses, by arm.",
        unit="short",
        least=0,
        queries=(sql("cost"),),
    ),
    _STAGE,
)


def of_rollout(agent: str) -> Dashboard:
    """The evidence that moves an agent's rollout, and what people met meanwhile."""
    return Dashboard(
        title=f"{agent} rollout",
        description=f"The evidence for and against the candidate of {agent}, arm beside arm.",
        changes=sql("stage_changes"),
        panels=_ROLLOUT,
    )


_PIPELINE: Final = (
    Panel(
        title="Throughput",
        description="Records read and committed a second, by lane.",
        unit="ops",
        least=0,
        queries=(prom("records", "sum by (lane) (rate(pointsman_records_total[1m]))", "{{lane}}"),),
    ),
    Panel(
        title="Lag",
        description="Records that are there and not done, by lane.",
        unit="short",
        least=0,
        queries=(prom("lag", "sum by (lane) (pointsman_lag_records)", "{{lane}}"),),
    ),
    Panel(
        title="Batch time",
        description="From taking a batch to its commit: the slowest in a hundred, by lane.",
        unit="s",
        least=0,
        queries=(
            prom(
                "p99",
                "histogram_quantile(0.99, sum by (lane, le) (rate(pointsman_batch_seconds_bucket[5m])))",
                "{{lane}}",
            ),
        ),
    ),
    Panel(
        title="Ledger",
        description="Ranges whose requests are not accounted for. Anything but 0 is a loss or a double.",
        unit="short",
        least=0,
        thresholds=(Threshold(0, "green"), Threshold(1, "red")),
        queries=(prom("differences", "max(pointsman_ledger_differences)"),),
    ),
    Panel(
        title="Dead letters",
        description="Messages that broke their contract, a second, by reason.",
        unit="ops",
        least=0,
        queries=(
            prom(
                "letters",
                "sum by (reason) (rate(pointsman_dead_letters_total[5m])) > 0 or on () vector(0)",
                "{{reason}}",
            ),
        ),
    ),
    Panel(
        title="Model process",
        description="1 while the model answers for an agent; its circuit breaker.",
        unit="bool_on_off",
        least=0,
        greatest=1,
        queries=(
            prom("available", "min by (agent) (pointsman_model_available)", "{{agent}}"),
            prom("breaker", "max by (agent) (pointsman_model_breaker_open)", "{{agent}} breaker open"),
        ),
    ),
    Panel(
        title="Memory",
        description="Resident memory of each process.",
        unit="bytes",
        least=0,
        queries=(prom("memory", 'process_resident_memory_bytes{job="pointsman"}', "{{instance}}"),),
    ),
    Panel(
        title="Health",
        description="1 while a lane makes progress or has nothing to do, while the database can be written, and while flags can be followed.",
        unit="bool_yes_no",
        least=0,
        greatest=1,
        queries=(
            prom("healthy", "min by (lane) (pointsman_healthy)", "{{lane}}"),
            # A worker without the lane shows 0 of what it never looks at.
            prom("database", _of_lane("pointsman_database_up", "sink")),
            prom("flags", _of_lane("pointsman_flags_current", "decisions")),
        ),
    ),
    Panel(
        title="Partitions begun anew",
        description="Partitions that dropped what was not committed and went on from what was, a second, by error.",
        unit="ops",
        least=0,
        queries=(
            prom(
                "restarts",
                "sum by (lane, error) (rate(pointsman_partition_restarts_total[5m])) or vector(0)",
                "{{lane}} {{error}}",
            ),
        ),
    ),
)


def of_pipeline() -> Dashboard:
    """Whether the pipeline itself is well, whatever agents it serves."""
    return Dashboard(
        title="Pointsman pipeline",
        description="Throughput, backlog and health of every worker.",
        panels=_PIPELINE,
    )
