"""Writes the tables and compiles, into the cache, and only what changed; the jars come from `make real-parts`."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.contenders.task import Task, to_json
from pointsman.infra.dev import real_parts
from pointsman.models.agents.documentation_keeper import (
    AGENT,
    features,
    measure,
    memory,
    paths,
    rules,
    subject,
)
from pointsman.models.decider import decider_id
from pointsman.schemas.outcome import FlagState, Versions
from pointsman.streams.decisions.runtime import Runtime

HERE: Final = Path(__file__).resolve().parent
SOURCES: Final = HERE / "src"
MAIN: Final = "KafkaStreamsContender"
JVM: Final = ("-Xms512m", "-Xmx1g", "-XX:+UseParallelGC")
"""Of the collectors the one with the most throughput; the heap is more than the program touches."""


def command(task: Task) -> list[str]:
    """The contender's command line; compiles what is missing. Raises MissingPartError."""
    folder = compiled(whole=True)
    path = f"{folder}:{_class_path()}"
    logs = f"-Dlog4j2.configurationFile={real_parts.HERE / 'log4j2.properties'}"
    arguments = [str(folder / "tables.tsv"), to_json(task)]
    return [str(real_parts.java()), *JVM, logs, "-cp", path, MAIN, *arguments]


def answers(requests: Iterable[bytes]) -> list[bytes]:
    """The Java program's outcomes of requests without line ends; needs no broker. Raises MissingPartError."""
    folder = compiled(whole=False)
    path = f"{folder}:{_class_path()}"
    done = subprocess.run(
        [str(real_parts.java()), "-cp", path, "Answers", str(folder / "tables.tsv")],
        input=b"\n".join(requests) + b"\n",
        capture_output=True,
        check=False,
        timeout=60,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return done.stdout.splitlines()


def compiled(*, whole: bool) -> Path:
    """The folder of classes and tables, named by what they were made of. ``whole``: with the part that streams."""
    sources = sorted(each for each in SOURCES.glob("*.java") if whole or each.stem != MAIN)
    content = tables()
    digest = hashlib.sha256(content.encode())
    for each in sources:
        digest.update(each.name.encode() + b"\0" + each.read_bytes())
    target = real_parts.cache() / "kafka-streams-contender" / digest.hexdigest()[:16]
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        (made / "tables.tsv").write_text(content, encoding="utf-8")
        _compile(sources, made)
        try:
            made.rename(target)
        except OSError:  # another process was quicker: it made the same
            if not target.exists():
                raise
    return target


def _compile(sources: list[Path], target: Path) -> None:
    compiler = real_parts.java().with_name("javac")
    if not compiler.exists():
        found = shutil.which("javac")
        if found is None:
            msg = f"needed: a JDK with javac, version {real_parts.JAVA_MINIMUM} or newer"
            raise real_parts.MissingPartError(msg)
        compiler = Path(found)
    done = subprocess.run(
        [compiler, "-Xlint:all", "-d", target, "-cp", _class_path(), *sources],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)


def _class_path() -> str:
    return f"{real_parts.streams_jars()}/*:{real_parts.kafka_jars()}/*"


def tables() -> str:
    """Word lists, conditions and constants of the agent, so that they are written down once: a line a name."""
    sets = {name: value for name, value in vars(paths).items() if isinstance(value, frozenset)}
    lines: dict[str, Iterable[Any]] = {name: sorted(words) for name, words in sets.items()}
    lines["sets"] = sorted(sets)
    lines["_BITS"] = [f"{word.decode()}={bits}" for word, bits in sorted(subject._BITS.items())]  # noqa: SLF001
    lines["MASKED"] = [subject.MASKED]
    lines["NAMES"] = features.NAMES
    lines["UNKNOWN"] = memory.UNKNOWN
    lines["conditions"] = [len(rules.CONDITIONS)]
    for i, each in enumerate(rules.CONDITIONS):
        lines[f"condition{i}"] = [each.feature, each.above, each.points, each.says, str(each.below).lower()]
    lines |= {name: [getattr(rules, name)] for name in ("SLOPE", "INTERCEPT")}
    lines |= {name: [getattr(measure, name)] for name in ("THRESHOLD", "NEEDED", "NOT_NEEDED")}
    lines |= {"act": [AGENT.bands.act], "validate": [AGENT.bands.validate]}
    lines["decider"] = [decider_id(AGENT.rules)]
    lines["flag"] = [_json(FlagState(name=AGENT.flag, percentage=0.0, version=1))]
    lines["versions"] = [_json(Runtime(AGENT).versions)]
    return "".join("\t".join([name, *map(str, cells)]) + "\n" for name, cells in lines.items())


def _json(value: FlagState | Versions) -> str:
    return msgspec.json.encode(value).decode()
