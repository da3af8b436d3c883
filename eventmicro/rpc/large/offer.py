"""The offer of a large body: who has it, and what it is; whoever is to take it sends a frame there."""

from __future__ import annotations

from dataclasses import dataclass

from eventmicro.errors import BodyMissing
from eventmicro.large import read_large, write_large
from eventmicro.rpc.streams.opening import is_address, is_number, keep_alive_of


@dataclass(frozen=True, slots=True)
class Offer:
    """What a side says of a body that it has.

    address, stream: the subject to which frames go, and the number that the stream of its pieces has there.
    keep_alive: how long either side may be silent before it counts as lost, in seconds.
    size: how long the body is, in bytes.
    digest: its SHA-256, in hexadecimal.
    """

    address: str
    stream: int
    keep_alive: float
    size: int
    digest: str


def write_offer(offer: Offer) -> str:
    """The offer as the value of the header `Large`."""
    form = {"address": offer.address, "stream": offer.stream, "keep_alive": round(offer.keep_alive * 1000)}
    return write_large(form, offer.size, offer.digest)


def read_offer(text: str) -> Offer:
    """What a header `Large` says.

    Raises:
        BodyMissing: it says what cannot be.
    """
    form = read_large(text)
    address, stream, keep_alive = form.get("address"), form.get("stream"), form.get("keep_alive")
    if not is_address(address):
        raise BodyMissing("without its body: nobody is named who has it")
    if not (is_number(stream) and is_number(keep_alive)):
        raise BodyMissing("without its body: 'stream' or 'keep_alive' of its offer is no number above 0")
    return Offer(address, stream, keep_alive_of(keep_alive), form["size"], form["sha256"])
