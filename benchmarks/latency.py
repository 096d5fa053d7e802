"""Latency from request to outcome: under constant load beside a bare loop, and request by request on an idle system.

    python -m benchmarks.latency [--quick] [--runs 3] [--seconds 10] [--partitions 4 16 64]

Requests go out on a fixed schedule, whatever comes back, and a latency counts from when its request was due: a
pause of the server is charged to every request that was due in it. The observer is a `read_committed` consumer. The
rates are half and 80 % of what the lane managed just before with generator and observer running. The bare loop
(one transaction for all partitions, hand-built batches, nothing decided) gets the same rates and commit interval.
Before all that the broker works for a while unmeasured: a young JVM compiles, and takes a core for it.
"""

from __future__ import annotations

import argparse
import random
import time
from typing import Any

import numpy as np
from confluent_kafka import Producer

from benchmarks.load.deployment import Deployment, broker, by_model_percent, deployed, others_percent
from benchmarks.load.messages import maker
from benchmarks.load.observer import Observer
from benchmarks.load.options import finish, parser
from benchmarks.load.phase import PATIENCE_S, Load, Phase, capacity, offer, steady
from benchmarks.load.schedule import Spread, all_answered, spread
from benchmarks.result import Row

SHARES = {"half": 0.5, "80 %": 0.8}
"""Of the capacity."""
WARM_UP_S = 3.0
"""Of each phase, not counted: the step from no load to this one is not what is asked."""
WARM_UP_RATE = 3_000.0
"""Requests a second for the broker's warm-up: a light load."""
IDLE_S = (0.05, 0.15)
"""Pause before a single request, drawn evenly: it meets every phase of whatever beats inside."""


def main() -> None:
    """Measure, print, write."""
    options = _options()
    load = Load(options.commits)
    runs: list[dict[str, Any]] = []
    with broker() as servers:
        _warm_up(servers, load, options.warm_up)
        for number in range(options.runs):
            for partitions in options.partitions:
                run = _compare(servers, partitions, load, options)
                print(f"run {number + 1}, {partitions} partitions: {_line(run)}", flush=True)
                runs.append(run)
        idle = [_idle(servers, load, options.singles) for _ in range(options.runs)]
    finish("latency", _rows(runs, idle), {"runs": runs, "idle": [vars_of(each) for each in idle]}, options)


def _options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--runs", type=int, default=3)
    made.add_argument("--seconds", type=float, default=10.0, help="of each phase that counts")
    made.add_argument("--partitions", type=int, nargs="+", default=[4, 16, 64])
    made.add_argument("--warm-up", type=float, default=120.0, help="seconds of load for the broker")
    made.add_argument("--singles", type=int, default=500, help="requests on the idle system, each run")
    options = made.parse_args()
    if options.quick:
        options.runs, options.seconds, options.partitions, options.singles = 1, 4.0, [4], 100
        options.warm_up = 5.0
    return options


def _warm_up(servers: str, load: Load, seconds: float) -> None:
    with deployed(servers, 4) as deployment, deployment.worker(), deployment.observer() as observer:
        offer(deployment, observer, load, rate=WARM_UP_RATE, count=int(WARM_UP_RATE * seconds))


# -- under load --------------------------------------------------------------------------------------


def _compare(servers: str, partitions: int, load: Load, options: argparse.Namespace) -> dict[str, Any]:
    """One run at one number of partitions: the lane's capacity and latencies, then the bare loop's at the same rates."""
    others = others_percent()
    with (
        deployed(servers, partitions) as deployment,
        deployment.worker() as worker,
        deployment.observer() as observer,
    ):
        most = capacity(deployment, observer, load, seconds=max(4.0, options.seconds / 2))
        lane = _phases(deployment, observer, load, most, options.seconds)
        interval_s, by_model = deployment.interval_s, by_model_percent(worker)
    with deployed(servers, partitions) as deployment, deployment.bare(), deployment.observer() as observer:
        bare = _phases(deployment, observer, load, most, options.seconds)
    return {
        "partitions": partitions,
        "others_percent": others,
        "capacity": most,
        "by_model_percent": by_model,
        "interval_ms": interval_s * 1000,
        "lane": {share: phase.as_dict() for share, phase in lane.items()},
        "bare": {share: phase.as_dict() for share, phase in bare.items()},
    }


def _phases(
    deployment: Deployment, observer: Observer, load: Load, most: float, seconds: float
) -> dict[str, Phase]:
    offer(deployment, observer, load, rate=most / 2, count=int(most))  # two seconds, to warm up
    return {
        name: steady(
            deployment, observer, load, rate=most * share, seconds=seconds, warm_up_s=WARM_UP_S
        )
        for name, share in SHARES.items()
    }  # fmt: skip


# -- idle --------------------------------------------------------------------------------------------


def _idle(servers: str, load: Load, count: int) -> Spread:
    """Latencies of single requests, each sent when the one before has its outcome and a pause is over."""
    with deployed(servers, 4) as deployment, deployment.worker(), deployment.observer() as observer:
        _singles(deployment, observer, load, "idlewarm", 20)
        return spread(_singles(deployment, observer, load, "idle0000", count))


def _singles(
    deployment: Deployment, observer: Observer, load: Load, token: str, count: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Milliseconds from the call that sends to the outcome in hand."""
    make, drawn = maker(token, load.commits), random.Random(1)
    producer = Producer({"bootstrap.servers": deployment.servers, "linger.ms": 0})
    producer.list_topics(deployment.names.requests, timeout=20)
    taken = np.empty(count)
    for number in range(count):
        time.sleep(drawn.uniform(*IDLE_S))
        key, value = make(number)
        began = time.monotonic()
        producer.produce(deployment.names.requests, value, key)
        seen = observer.collect(token, count, until_s=began + PATIENCE_S, wanted=1)
        all_answered(seen[number : number + 1])
        taken[number] = seen[number] - began
    producer.flush()  # all were delivered; it only hears of it here
    return taken * 1000


# -- what it comes to --------------------------------------------------------------------------------


def _rows(runs: list[dict[str, Any]], idle: list[Spread]) -> list[Row]:
    rows = []
    for partitions in dict.fromkeys(run["partitions"] for run in runs):
        own = [run for run in runs if run["partitions"] == partitions]
        rows.append(
            Row.of(f"{partitions} partitions: capacity", "decisions/s", [r["capacity"] for r in own], better="higher")
        )  # fmt: skip
        for share in SHARES:
            what = f"{partitions} partitions, {share} of capacity"
            for name in ("lane", "bare"):
                for figure in ("p50", "p95", "p99"):
                    values = [run[name][share]["spread"][figure] for run in own]
                    rows.append(Row.of(f"{what}: {figure} {name}", "ms", values, better="lower"))
            ratios = [
                run["lane"][share]["spread"]["p99"] / run["bare"][share]["spread"]["p99"] for run in own
            ]
            bounds = {"at_least": 2.0, "aim": 1.3} if share == "half" else {}
            rows.append(Row.of(f"{what}: p99 lane / p99 bare", "x", ratios, better="lower", **bounds))
    for figure in ("p50", "p95", "p99"):
        bounds = {"at_least": 50.0, "aim": 20.0} if figure == "p99" else {}
        values = [getattr(each, figure) for each in idle]
        rows.append(Row.of(f"idle, request by request: {figure}", "ms", values, better="lower", **bounds))
    by_model = [run["by_model_percent"] for run in runs]
    rows.append(Row.of("candidate's decisions answered by the model", "%", by_model, better="higher"))
    late = [run[name][share]["generator"]["late_p99_ms"] for run in runs for name in ("lane", "bare") for share in SHARES]  # fmt: skip
    rows.append(Row.of("generator behind its schedule: p99", "ms", late, better="lower"))
    return rows


def vars_of(found: Spread) -> dict[str, float]:
    """A spread for the file."""
    return {name: getattr(found, name) for name in Spread.__slots__}


def _line(run: dict[str, Any]) -> str:
    parts = [f"{run['capacity']:,.0f}/s, other programs {run['others_percent']:.0f} % of the machine"]
    for share in SHARES:
        lane, bare = run["lane"][share], run["bare"][share]
        kept = "" if lane["schedule_kept"] and bare["schedule_kept"] else " (SCHEDULE NOT KEPT)"
        parts.append(
            f"{share}: p99 {lane['spread']['p99']:.0f} ms, bare {bare['spread']['p99']:.0f} ms{kept}"
        )
    return "; ".join(parts)


if __name__ == "__main__":
    main()
