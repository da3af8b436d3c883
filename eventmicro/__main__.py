"""`python -m eventmicro`: the command line."""

from __future__ import annotations

from eventmicro.cli import main

if __name__ == "__main__":
    main()
