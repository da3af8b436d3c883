"""The command line: `eventmicro run`, `call`, `stream`, `publish` … Exit codes: 0 well, 1 failed, 2 used wrongly."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; what the console script `eventmicro` calls."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
        import watchfiles  # noqa: F401
    except ModuleNotFoundError as error:
        sys.exit(f"eventmicro: the command line needs {error.name}: pip install 'eventmicro[cli]'")
    from eventmicro.cli.app import run_app

    run_app()
