"""What is said of queues that are not there."""

from __future__ import annotations

import pytest

from eventmicro import Client
from eventmicro.broker import Durable
from eventmicro.cli import queues
from eventmicro.errors import UsageError


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["orders.bill", "dead.orders.bill"], ": there are dead.orders.bill, orders.bill"),
        (["nopes", "orders.bill"], "; did you mean 'nopes'?"),
        ([f"q{n:02}" for n in range(23)], "q18, q19 and 3 more: eventmicro queues"),
        ([], "there is no queue nope"),
    ],
    ids=["others", "like it", "many", "none"],
)
async def test_a_queue_that_is_not_there_is_told_with_those_that_are(names: list[str], said: str) -> None:
    async with Client("memory://queues-there") as client:
        for name in names:
            await client.broker.subscribe("orders.placed", lambda delivery: None, queue=name, durable=Durable())
        with pytest.raises(UsageError) as refused:
            await queues._states(client, ["nope"])
        assert str(refused.value).endswith(said)
