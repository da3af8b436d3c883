"""Each service has a database of its own, and a transaction around each message."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

from eventmicro import Context, Depends


def database(name: str, *statements: str) -> Callable[[], Iterator[sqlite3.Connection]]:
    """A lifespan: the database of a service, in the folder `SHOP_DATA`, or in memory; how it is made, if it is not."""

    def opened() -> Iterator[sqlite3.Connection]:
        folder = os.environ.get("SHOP_DATA")
        file = Path(folder, f"{name}.db") if folder else ":memory:"
        connection = sqlite3.connect(file, check_same_thread=False)
        with connection:
            for statement in statements:
                connection.execute(statement)
        yield connection
        connection.close()

    return opened


def transaction(context: Context) -> Iterator[sqlite3.Connection]:
    """Committed where the handler returns, and before what it returns is published; rolled back where it raises."""
    with context.state:
        yield context.state


Database = Annotated[sqlite3.Connection, Depends(transaction)]
