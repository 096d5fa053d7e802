"""The command line `pointsman`. `main` turns errors into one line and an exit code; `app` holds the commands."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 ok, 1 failed, 2 bad usage or input, 3 not reachable, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    if debug:  # it may stand anywhere
        given.remove("--debug")
    # Commands tell errors themselves; what runs longer sets up its own logging.
    logging.getLogger().addHandler(logging.NullHandler())
    from pointsman.streams.cli.app import app  # noqa: PLC0415 - so that a broken install still names its error

    try:
        app(given, prog_name="pointsman")
    except BrokenPipeError:
        # Whoever read us has seen enough; the interpreter must not complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        from pointsman.streams.cli.failure import exit_code, one_line  # noqa: PLC0415

        code = exit_code(error)
        if debug or code is None:
            raise
        sys.stderr.write(f"pointsman: {one_line(error)}\n")
        sys.exit(code)
