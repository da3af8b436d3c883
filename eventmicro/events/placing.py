"""Places of a broker's own, refused where it is another one: neither left out nor taken for what they are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eventmicro.errors import Unsupported
from eventmicro.places import Place


def check_places(about: str, broker: Any, *places: Place) -> None:
    """Refuse places that a broker does not know.

    Raises:
        Unsupported: it does not; it is said whose they are.
    """
    for refusal in strange_places(about, broker, *places):
        raise refusal


def strange_places(about: str, broker: Any, *places: Place) -> Iterator[Unsupported]:
    """Why a broker does not know these places, of each that it does not."""
    known: tuple[type[Place], ...] = getattr(broker, "places", ())
    for place in places:
        if not isinstance(place, known):
            yield Unsupported(
                f"{about}: {type(place).__name__}({place.name!r}) is for {place.product}, and {broker.url} knows no "
                f"such thing: leave it out, or connect to {place.product}"
            )
