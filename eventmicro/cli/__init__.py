"""The command line: `eventmicro run`, `call`, `stream`, `publish` … Exit codes: 0 well, 1 failed, 2 used wrongly."""

from __future__ import annotations

import gc
import sys
from importlib.util import find_spec
from typing import NoReturn

NEEDED = ("rich", "typer", "watchfiles")


def main() -> None:
    """Run the command line; what the console script `eventmicro` calls."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        _say_missing(missing[0])
    gc.disable()  # until the command is found: what is imported is no garbage, and to look through it all takes long
    try:
        _run()
    except KeyboardInterrupt:  # while it is imported
        sys.exit(130)
    finally:
        gc.freeze()  # the process ends, and with it all there is


def _run() -> None:
    try:
        from eventmicro.cli.app import run_app
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        _say_missing(error.name)

    run_app()


def _say_missing(name: str) -> NoReturn:
    sys.exit(f"eventmicro: the command line needs {name}: pip install 'eventmicro[cli]'")
