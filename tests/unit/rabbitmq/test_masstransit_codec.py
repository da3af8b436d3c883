"""RabbitMQ: what MassTransit's codec writes, and says of what it cannot write."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any

import pytest
from eventmicro_rabbitmq.masstransit import MassTransit
from pydantic import BaseModel
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from eventmicro.errors import EncodeError


class Placed(BaseModel):
    card: str = ""
    total: float = 0.0


@dataclass
class Billed:
    card: str = ""


class Shipped(TypedDict):
    card: str


SECRET = {"id": 1, "card": "4111"}


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        (Placed, SECRET, "expected Placed, got dict"),
        (Billed, SECRET, "expected Billed, got dict"),
        (Placed, Billed("4111"), "expected Placed, got Billed"),
        (int, "4111", "expected int, got str"),
        (list[Placed], Placed(card="4111"), "expected list[{module}.Placed], got Placed"),
        (dict[str, int], {"a": "4111"}, "expected dict[str, int], got dict, and in it another type than is said"),
        (
            Placed,
            Placed.model_construct(card=["4111"]),
            "Placed cannot be written: its field 'card' is of another type: list",
        ),
    ],
)
def test_a_value_of_another_type_is_refused_without_its_text(kind: Any, value: Any, told: str) -> None:
    with pytest.raises(EncodeError) as refused:
        MassTransit("Shop:Placed").encoder(kind)(value)
    assert str(refused.value) == told.format(module=__name__)
    assert "input_value" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("kind", "value"),
    [(Placed, Placed(card="1", total=1)), (Billed, Billed("1")), (float, 1), (Shipped, {"card": "1"}), (str | int, 1)],
)
def test_what_is_of_the_type_is_written(kind: Any, value: Any) -> None:
    codec = MassTransit("Shop:Placed")
    assert codec.decoder(kind)(codec.encoder(kind)(value)) == value


def test_codecs_are_compared_and_may_be_kept_in_sets() -> None:
    plain, answering = MassTransit("Shop:Placed"), MassTransit("Shop:Placed").answering({"requestId": "1"})
    assert plain != answering
    assert len({plain, answering, MassTransit("Shop:Billed")}) == 3
    assert hash(MassTransit("Shop:Billed")) == hash(MassTransit("Shop:Billed", request_id=None))
