"""The command line: `eventmicro run`, `call`, `stream`, `publish` … Exit codes: 0 well, 1 failed, 2 used wrongly."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line; what the console script `eventmicro` calls."""
    missing = [name for name in ("rich", "typer", "watchfiles") if find_spec(name) is None]
    if missing:
        sys.exit(f"eventmicro: the command line needs {missing[0]}: pip install 'eventmicro[cli]'")
    from eventmicro.cli.app import run_app

    run_app()
