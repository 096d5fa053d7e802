"""Plans: what is done to whom and when, drawn from a seed, kept as JSON so that it can be done again."""

from __future__ import annotations

import json
import random
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

Layout = Literal["apart", "together"]

WORKERS: Final = ("worker-1", "worker-2", "worker-3")
JOINER: Final = "worker-4"
CLOCKED: Final = "worker-2"
"""The worker whose clock can be moved; the others keep the machine's."""
REMOTE: Final = "worker-3"
"""The worker that asks a model server of ours, whose model misbehaves on command; the others have their own."""
OWN_MODEL: Final = tuple(name for name in WORKERS if name != REMOTE)
SETTLE_S: Final = 2.0
"""Between the end of one fault and the next of the same target, so that it may come back at all."""


@dataclass(frozen=True)
class Fault:
    """One fault: it begins at least ``at_s`` seconds after the load and ends ``for_s`` seconds later."""

    at_s: float
    kind: str
    target: str
    for_s: float


@dataclass(frozen=True)
class Kind:
    """Whom a kind of fault can hit, how long it lasts, and what it does, in words."""

    targets: tuple[str, ...]
    seconds: tuple[float, float]
    text: str


KINDS: Final = {
    "worker_kill": Kind(WORKERS, (0.5, 6), "SIGKILL of a worker, started again later"),
    "worker_pause": Kind(WORKERS, (0.5, 3), "SIGSTOP of a worker, shorter than its session"),
    "worker_stall": Kind(WORKERS, (9, 16), "SIGSTOP of a worker, longer than its session"),
    "worker_restart": Kind(WORKERS, (0.5, 6), "SIGTERM of a worker, started again later"),
    "worker_join": Kind((JOINER,), (5, 12), "a fourth worker comes and goes"),
    "worker_kill_all": Kind(("all",), (0.5, 4), "SIGKILL of all workers at once"),
    "lag": Kind(("all",), (10, 20), "SIGSTOP of all workers, longer than their session: lag builds up"),
    "sink_kill": Kind(("sink",), (0.5, 6), "SIGKILL of the sink, started again later"),
    "sink_pause": Kind(("sink",), (0.5, 3), "SIGSTOP of the sink, shorter than its session"),
    "sink_stall": Kind(("sink",), (9, 16), "SIGSTOP of the sink, longer than its session"),
    "sink_restart": Kind(("sink",), (0.5, 6), "SIGTERM of the sink, started again later"),
    "model_kill": Kind(OWN_MODEL, (0, 0), "SIGKILL of a worker's model process"),
    "model_pause": Kind(OWN_MODEL, (0.5, 4), "SIGSTOP of a worker's model process"),
    "model_stall": Kind(OWN_MODEL, (17, 20), "SIGSTOP of a model process until its worker gives it up"),
    "model_slow": Kind(("server",), (3, 8), "a model that takes longer than the deadline"),
    "model_hang": Kind(("server",), (3, 8), "a model that never answers"),
    "model_crash": Kind(("server",), (2, 5), "a model whose process ends at each question"),
    "model_shape": Kind(("server",), (3, 8), "a model that gives one number too many"),
    "model_nan": Kind(("server",), (3, 8), "a model that gives NaN"),
    "model_error": Kind(("server",), (3, 8), "a model that raises"),
    "broker_restart": Kind(("broker",), (0.5, 4), "SIGTERM of the broker, started again on its data"),
    "broker_kill": Kind(("broker",), (0.5, 4), "SIGKILL of the broker, started again on its data"),
    "broker_pause": Kind(("broker",), (1, 8), "SIGSTOP of the broker"),
    "database_restart": Kind(("database",), (0.5, 6), "fast shutdown of PostgreSQL, started again"),
    "database_kill": Kind(("database",), (0.5, 6), "SIGKILL of PostgreSQL, started again on its data"),
    "database_full": Kind(("database",), (4, 10), "the database's disk is full, log and tables"),
    "clock_forward": Kind((CLOCKED,), (4, 10), "a worker's clock jumps 50 minutes forward and back again"),
    "clock_far": Kind((CLOCKED,), (4, 8), "a worker's clock jumps 5 hours forward, which the broker refuses"),
    "clock_back": Kind((CLOCKED,), (4, 10), "a worker's clock jumps 50 minutes back and forth again"),
    "poison": Kind(("requests", "feedback"), (0, 0), "one invalid message of each kind into each partition"),
}


@dataclass(frozen=True)
class Plan:
    """All that decides a run, but for the scheduler's and the network's own chance."""

    name: str
    seed: int
    layout: Layout
    """`apart`: the sink is a worker of its own; `together`: each worker decides and writes rows."""
    partitions: int
    rate: int
    """Requests a second."""
    seconds: float
    """How long the load runs."""
    compression: str
    faults: tuple[Fault, ...]

    def to_json(self) -> str:
        """For a file that `load` reads."""
        return json.dumps(asdict(self), indent=1)

    def lines(self) -> list[str]:
        """For people."""
        head = (
            f"plan {self.name}, seed {self.seed}: {len(self.faults)} faults in {self.seconds:.0f} s, "
            f"{self.rate} requests/s ({self.compression}), {self.partitions} partitions, sink {self.layout}"
        )
        return [
            head,
            *(f"  {f.at_s:7.1f} s  {f.kind:<17} {f.target:<9} {f.for_s:5.1f} s" for f in self.faults),
        ]


def load(path: Path) -> Plan:
    """A plan from its file."""
    found = json.loads(path.read_text())
    return Plan(**found | {"faults": tuple(Fault(**fault) for fault in found["faults"])})


def draw(
    seed: int,
    *,
    faults: int,
    seconds: float,
    rate: int,
    name: str = "default",
    without: Collection[str] = (),
) -> Plan:
    """A plan from a seed. ``without``: kinds that this machine cannot do.

    The kinds are dealt like cards, so that each comes before one comes twice.
    """
    chance = random.Random(seed)
    layout: Layout = chance.choice(("apart", "together"))
    compression = chance.choice(("none", "gzip", "lz4", "zstd", "snappy"))
    left_out = {*without, *(kind for kind in KINDS if layout == "together" and kind.startswith("sink_"))}
    gap = seconds / (faults + 1)
    deck: list[str] = []
    busy: dict[str, float] = {}
    drawn = []
    for number in range(faults):
        at_s = round((number + 1) * gap + chance.uniform(-0.3, 0.3) * gap, 1)
        fault = _deal(chance, deck, busy, at_s, left_out)
        drawn.append(fault)
        for target in _held(fault):
            busy[target] = fault.at_s + fault.for_s + SETTLE_S
    return Plan(
        name=name,
        seed=seed,
        layout=layout,
        partitions=chance.choice((4, 6)),
        rate=rate,
        seconds=seconds,
        compression=compression,
        faults=tuple(sorted(drawn, key=lambda fault: fault.at_s)),
    )


def _deal(
    chance: random.Random, deck: list[str], busy: dict[str, float], at_s: float, left_out: Collection[str]
) -> Fault:
    """The first card of the deck that finds a target at rest; one that finds none stays for the next time."""
    kinds = [kind for kind in KINDS if kind not in left_out]
    chance.shuffle(kinds)
    if not deck:
        deck.extend(kinds)
    while True:
        for kind in [*deck, *(each for each in kinds if each not in deck)]:
            targets = list(KINDS[kind].targets)
            chance.shuffle(targets)
            for target in targets:
                fault = Fault(at_s, kind, target, round(chance.uniform(*KINDS[kind].seconds), 1))
                if all(busy.get(held, 0.0) <= at_s for held in _held(fault)):
                    if kind in deck:
                        deck.remove(kind)
                    return fault
        at_s = round(at_s + 1.0, 1)


def _held(fault: Fault) -> tuple[str, ...]:
    """Whom a fault keeps busy."""
    if fault.target == "all":
        return (*WORKERS, "all")
    return (fault.target, "all") if fault.target in WORKERS else (fault.target,)
