"""Who is compared: one entry a contender, and how it is started."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Final

from benchmarks.contenders.task import Task, to_json
from pointsman.infra.dev.real_parts import MissingPartError


@dataclass(frozen=True)
class Contender:
    """A program that takes a `Task` and prints one line of JSON."""

    name: str
    says: str
    """For tables: what it is."""
    command: Callable[[Task], list[str]]
    exactly_once: bool = True
    decides: bool = True
    rules_only: bool = False
    """No model: the flag is 0 and nothing is asked beside the rules."""
    hot: bool = False
    """Whether messages that are not measured come first."""
    needs: Callable[[], None] = lambda: None
    """Raises MissingPartError where it cannot take part on this machine."""
    estimator: bool = False
    """Whether it asks the model as scikit-learn has it."""
    share: float = 1.0
    """Of the messages: a rate is the same over fewer."""

    def task(self, task: Task) -> Task:
        """The run's task as this contender gets it."""
        warm_up = task.warm_up if self.hot else 0
        task = replace(task, decides=self.decides, estimator=self.estimator, warm_up=warm_up)
        return replace(task, percent=0.0, shadow_percent=0.0) if self.rules_only else task


def python(module: str) -> Callable[[Task], list[str]]:
    """A module of `benchmarks.contenders`."""
    return lambda task: [sys.executable, "-m", f"benchmarks.contenders.{module}", to_json(task)]


def installed(package: str) -> bool:
    """Whether it can be imported."""
    return find_spec(package) is not None


def _quix() -> None:
    if not installed("quixstreams"):
        raise MissingPartError("Quix Streams is not installed: infra/dev/environment.sh bench")


def _kafka_streams() -> None:
    from benchmarks.kafka_streams import build  # noqa: PLC0415 - nobody else needs Java

    build.compiled(whole=True)


def java(task: Task) -> list[str]:
    """The Kafka Streams program. Raises `MissingPartError` where its jars or a JDK cannot be had."""
    from benchmarks.kafka_streams import build  # noqa: PLC0415 - nobody else needs Java

    return build.command(task)


SLOW: Final = 0.2
"""A few thousand messages a second: a fifth of the messages is still the longest run of all."""

ALL: Final = {
    each.name: each
    for each in (
        Contender(
            "bare",
            "bare aiokafka loop, copies, at least once",
            python("bare"),
            exactly_once=False,
            decides=False,
        ),
        Contender("lane", "Pointsman's lane, whole decision path, exactly once", python("lane")),
        Contender(
            "lane_rules", "the same with the model at 0 %, rules only", python("lane"), rules_only=True
        ),
        Contender(
            "lane_identity",
            "Pointsman's lane, copies, exactly once",
            python("lane_identity"),
            decides=False,
        ),
        Contender(
            "confluent", "confluent-kafka by hand, batches, decision, exactly once", python("confluent")
        ),
        Contender(
            "confluent_rules",
            "the same without the model, rules only",
            python("confluent"),
            rules_only=True,
        ),
        Contender(
            "confluent_identity",
            "confluent-kafka by hand, copies, exactly once",
            python("confluent"),
            decides=False,
        ),
        Contender(
            "quix",
            "Quix Streams, decision, exactly once",
            python("quix"),
            needs=_quix,
            estimator=True,
            share=SLOW,
        ),
        Contender(
            "quix_onnx",
            "the same with Pointsman's form of the model",
            python("quix"),
            needs=_quix,
            share=SLOW,
        ),
        Contender(
            "quix_rules",
            "the same without the model, rules only",
            python("quix"),
            needs=_quix,
            rules_only=True,
            share=SLOW,
        ),
        Contender(
            "quix_identity", "Quix Streams, copies, exactly once", python("quix"), needs=_quix, decides=False
        ),
        Contender(
            "faust",
            "plain Faust agents, decision, at least once",
            python("faust_agents"),
            exactly_once=False,
            estimator=True,
            share=SLOW,
        ),
        Contender(
            "faust_onnx",
            "the same with Pointsman's form of the model",
            python("faust_agents"),
            exactly_once=False,
            share=SLOW,
        ),
        Contender(
            "faust_rules",
            "the same without the model, rules only",
            python("faust_agents"),
            exactly_once=False,
            rules_only=True,
            share=SLOW,
        ),
        Contender(
            "faust_identity",
            "plain Faust agents, copies, at least once",
            python("faust_agents"),
            exactly_once=False,
            decides=False,
            share=SLOW,
        ),
        Contender(
            "kafka_streams",
            "Kafka Streams (Java, hot), rules only, exactly once",
            java,
            needs=_kafka_streams,
            rules_only=True,
            hot=True,
        ),
        Contender(
            "kafka_streams_identity",
            "Kafka Streams (Java, hot), copies, exactly once",
            java,
            needs=_kafka_streams,
            decides=False,
            hot=True,
        ),
    )
}


def chosen(names: str) -> list[Contender]:
    """Those named, separated by commas; all where none is. The bare loop always takes part: it tells the noise."""
    wanted = [name for name in names.split(",") if name] or list(ALL)
    unknown = [name for name in wanted if name not in ALL]
    if unknown:
        raise SystemExit(f"no contender {', '.join(unknown)}; there are {', '.join(ALL)}")
    return [contender for name, contender in ALL.items() if name in wanted or name == "bare"]


def able(contenders: list[Contender]) -> list[Contender]:
    """Those that can take part here; of the others it is said why they are not measured."""
    out = []
    for each in contenders:
        try:
            each.needs()
        except MissingPartError as reason:
            print(f"{each.name} is not measured: {reason}")
        else:
            out.append(each)
    return out
