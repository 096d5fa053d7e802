"""The long run: `make fuzz ARGS="--minutes 10"`. Decoder by decoder in turn, each round with a fresh seed.

A find is made as small as it can be, saved into the corpus, and shown; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import logging
import random
import time
import traceback
from collections.abc import Sequence

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.database import InMemoryExampleDatabase

from tests.fuzz.check import Target, check
from tests.fuzz.corpus import keep, kept
from tests.fuzz.mutate import inputs
from tests.fuzz.targets import TARGETS

ROUND = 300
"""Examples of a decoder before it is the next one's turn: some seconds."""


def find(target: Target, seed: int, examples: int = ROUND) -> tuple[bytes, Exception] | None:
    """The smallest input found on which a property does not hold, with its error."""
    last = b""

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=InMemoryExampleDatabase(),
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(inputs(list(kept(target.name).values())))
    def run(value: bytes) -> None:
        nonlocal last
        last = value
        check(target, value)

    try:
        run()
    except Exception as error:
        return last, error
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run for some minutes; 1 if something was found."""
    parser = argparse.ArgumentParser(prog="make fuzz ARGS=", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=None, help="of the first round, to repeat a run")
    parser.add_argument("--only", choices=sorted(TARGETS), action="append", help="may be given again")
    given_ = parser.parse_args(arguments)
    first = seed = random.randrange(2**32) if given_.seed is None else given_.seed
    names = given_.only or list(TARGETS)
    print(f"seed {first}, {given_.minutes:g} minutes, {len(names)} decoders")
    end = time.monotonic() + 60 * given_.minutes
    finds = rounds = 0
    broken: set[str] = set()
    while time.monotonic() < end and len(broken) < len(names):
        name = names[rounds % len(names)]
        rounds += 1
        if name in broken:  # the same fault would be found again and again
            continue
        found = find(TARGETS[name], seed)
        seed += 1
        if found is not None:
            value, error = found
            finds += 1
            broken.add(name)
            print(f"\n{name}: {value!r:.500}\nsaved as {keep(name, value)}")
            traceback.print_exception(error, limit=-6)
    print(f"{rounds} rounds of {ROUND} inputs, {finds} finds")
    return 1 if finds else 0


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # each refusal is logged, and here nearly all is refused
    raise SystemExit(main())
