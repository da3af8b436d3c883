"""MassTransit's envelope: what its services publish is read, what they read is written, their requests are answered.

https://masstransit.io/documentation/concepts/messages. The message is JSON in the member `message`; beside it stand the
names of its types, by which a consumer takes it, ids and addresses. Each type is a fanout exchange, `Shop:OrderPlaced`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, is_dataclass
from datetime import UTC, datetime
from typing import Any, Self, TypeVar, get_origin
from urllib.parse import unquote, urlsplit
from uuid import UUID, uuid4

from eventmicro.codec import Decoder, Encoder, why_unwritten
from eventmicro.compression import MAX_DECOMPRESSED, decompress
from eventmicro.context import Context
from eventmicro.errors import DecodeError, EncodeError, EventMicroError, UsageError
from eventmicro.message import Delivery
from eventmicro.topic import Topic, takes_none
from eventmicro.wire import CONTENT_ENCODING, header
from eventmicro_rabbitmq.places import RabbitExchange
from eventmicro_rabbitmq.topology import check_name

T = TypeVar("T")

CONTENT_TYPE = "application/vnd.masstransit+json"
URN = "urn:message:"
# The members of an envelope that are ids and addresses, by their names here.
_SAID = {
    "message_id": "messageId",
    "request_id": "requestId",
    "correlation_id": "correlationId",
    "conversation_id": "conversationId",
    "initiator_id": "initiatorId",
    "source_address": "sourceAddress",
    "destination_address": "destinationAddress",
    "response_address": "responseAddress",
    "fault_address": "faultAddress",
}


@dataclass(frozen=True, slots=True, init=False)
class MassTransit:
    """The codec of a topic that is shared with services of MassTransit:

        PLACED = MassTransit("Shop.Contracts:OrderPlaced")
        Topic("orders.placed", OrderPlaced, codec=PLACED, exchange=PLACED.exchange)

    Every handler reads what comes in such an envelope; without a type it is for that alone. A `Topic` with `dict` or a
    model gets the message within.

    Args:
        types: the message's type as MassTransit writes it, namespace and name, and further ones that it implements.
        answers_to: the exchange to which requests of this topic are to be answered, that of a subscriber here.
        request_id: says of a request by which id its answer is known, a UUID; default: a new one.

    Raises:
        UsageError: these are no names of exchanges.
    """

    types: tuple[str, ...]
    answers_to: str | None
    request_id: Callable[[Any], UUID]
    said: Mapping[str, str] = field(hash=False)

    content_type = CONTENT_TYPE

    def __init__(
        self, *types: str, answers_to: str | None = None, request_id: Callable[[Any], UUID] | None = None
    ) -> None:
        for each in types:
            if not isinstance(each, str) or ":" not in each or each.startswith("urn:"):
                raise UsageError(f"MassTransit({each!r}): write namespace and name, as 'Shop.Contracts:OrderPlaced'")
        for name in (*types, *(() if answers_to is None else (answers_to,))):
            check_name(name, "exchange")
        self._set(types=types, answers_to=answers_to, request_id=request_id or _any_id, said={})

    @property
    def exchange(self) -> RabbitExchange:
        """The exchange of the type, as MassTransit makes it.

        Raises:
            UsageError: no type is said.
        """
        if not self.types:
            raise UsageError(
                "MassTransit(): write the type of the message, as MassTransit('Shop.Contracts:OrderPlaced')"
            )
        return RabbitExchange(self.types[0], type="fanout")

    def handles(self, kind: Any) -> bool:
        """Whether values of this type can be written: those that pydantic knows, but for None, which is no message; so
        no messages of protobuf.
        """
        return kind not in (bytes, None, type(None)) and not hasattr(kind, "DESCRIPTOR") and not takes_none(kind)

    def encoder(self, kind: Any) -> Encoder:
        adapter, types = _typed(kind), json.dumps([f"{URN}{each}" for each in self.types])
        dump, check = adapter.dump_json, _type_check(kind, adapter)

        def encode(value: Any) -> bytes:
            if not self.types:
                raise EncodeError(
                    "MassTransit() only reads: write the type, as MassTransit('Shop.Contracts:OrderPlaced')"
                )
            if value.__class__ is not kind:
                check(value)
            try:
                message = bytes(dump(value, by_alias=True, warnings="error"))
            except ValueError as error:
                why, cause = why_unwritten(error)
                raise EncodeError(f"{getattr(kind, '__name__', kind)} cannot be written: {why}") from cause
            said = json.dumps(self._around(value))
            return b'%s,"messageType":%s,"message":%s}' % (said[:-1].encode(), types.encode(), message)

        return encode

    def decoder(self, kind: Any) -> Decoder:
        from pydantic import ValidationError, create_model

        _typed(kind)
        around: Any = create_model("Around", message=(kind, ...))

        def decode(body: bytes) -> Any:
            try:
                return around.model_validate_json(body).message
            except ValidationError as error:
                wrong = error.errors(include_url=False, include_context=False, include_input=False)
                name = getattr(kind, "__name__", str(kind))
                raise DecodeError(
                    f"no {name} in an envelope of MassTransit",
                    [{**each, "loc": list(each["loc"])[1:]} for each in wrong],
                ) from None

        return decode

    def answering(self, said: Mapping[str, str]) -> MassTransit:
        """The same for the answer to one request."""
        codec = MassTransit(*self.types)
        codec._set(said=dict(said))
        return codec

    def _around(self, value: Any) -> dict[str, Any]:
        """What stands around a message."""
        around: dict[str, Any] = {"messageId": str(uuid4()), "conversationId": str(uuid4())}
        around["destinationAddress"] = f"exchange:{self.types[0]}"
        if self.answers_to is not None:
            request_id = self.request_id(value)
            if not isinstance(request_id, UUID):
                raise UsageError(f"MassTransit(request_id=...) gave {request_id!r}: return a UUID")
            around |= {"requestId": str(request_id), "responseAddress": f"exchange:{self.answers_to}"}
        return {**around, **self.said, "sentTime": datetime.now(UTC).isoformat(), "headers": {}}

    def _set(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class MassTransitMessage:
    """What stands around the message that is being handled; what its publisher has not said is None.

    A handler has it by its parameter: `about: Annotated[MassTransitMessage, Depends(MassTransitMessage.of)]`.
    """

    types: tuple[str, ...]
    """Its types, as `Shop.Contracts:OrderPlaced`."""
    message_id: str | None = None
    request_id: str | None = None
    """That of the request, which its answer repeats."""
    correlation_id: str | None = None
    conversation_id: str | None = None
    initiator_id: str | None = None
    source_address: str | None = None
    destination_address: str | None = None
    response_address: str | None = None
    """Where an answer is awaited; see `answers`."""
    fault_address: str | None = None
    sent_time: str | None = None
    expiration_time: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    host: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, context: Context) -> Self:
        """What is said around the message at hand.

        Raises:
            UsageError: there is nothing: it is in no envelope of MassTransit's.
        """
        found = cls.find(context)
        if found is None:
            raise UsageError(
                f"the message on {context.topic} is in no envelope of MassTransit; where some are in none take "
                "MassTransitMessage | None by Depends(MassTransitMessage.find)"
            )
        return found

    @classmethod
    def find(cls, context: Context) -> Self | None:
        """The same, or None where it is in no envelope."""
        found = getattr(context, "delivery", None) or getattr(context, "came", None)
        members = _members(found) if isinstance(found, Delivery) else {}
        types = members.get("messageType")
        if not isinstance(types, list) or "message" not in members:
            return None
        said = {name: _text(members.get(member)) for name, member in _SAID.items()}
        return cls(
            types=tuple(str(each).removeprefix(URN) for each in types),
            sent_time=_text(members.get("sentTime")),
            expiration_time=_text(members.get("expirationTime")),
            headers=_table(members.get("headers")),
            host=_table(members.get("host")),
            **said,
        )

    def answers(self, topic: Topic[T]) -> Topic[T]:
        """The topic by which this request is answered: `await service.publish(about.answers(STATUS), status)`.

        It goes to the queue that awaits it, whose name is that of the exchange in `response_address`.

        Args:
            topic: what the answer is, with `codec=MassTransit("Shop.Contracts:OrderStatus")`.

        Raises:
            UsageError: no answer is awaited, or the topic has another codec.
        """
        if not isinstance(topic.codec, MassTransit):
            raise UsageError(f"{topic!r}: write Topic(..., codec=MassTransit('Shop.Contracts:OrderStatus'))")
        queue = _name_in(self.response_address or "")
        if not queue:
            raise UsageError(f"no answer is awaited: responseAddress is {self.response_address!r}")
        said = {"destinationAddress": self.response_address or ""}
        for member, value in (("requestId", self.request_id), ("conversationId", self.conversation_id)):
            if value is not None:
                said[member] = value
        return Topic(queue, topic.type, codec=topic.codec.answering(said), exchange=RabbitExchange(""))


def _any_id(_: Any) -> UUID:
    return uuid4()


def _name_in(address: str) -> str:
    """The name in an address, as `rabbitmq://host/vhost/name?temporary=true`, `queue:name` or `exchange:name`."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return unquote(parts.path.rpartition("/")[2])


def _typed(kind: Any) -> Any:
    """Pydantic's adapter of a type.

    Raises:
        UsageError: pydantic knows no such type.
    """
    from pydantic import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, TypeAdapter

    try:
        adapter = TypeAdapter(kind)
        if not adapter.pydantic_complete:
            adapter.rebuild(force=True)
        return adapter
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation, TypeError) as error:
        raise UsageError(f"{kind!r} cannot be a message: {str(error).splitlines()[0]}") from error


def _type_check(kind: Any, adapter: Any) -> Callable[[Any], None]:
    """What refuses a value of another type, without any of its text, which may be a secret."""
    from pydantic import BaseModel, ValidationError

    is_record = isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind))
    name = str(kind) if get_origin(kind) else getattr(kind, "__name__", str(kind))

    def is_one(value: Any) -> bool:
        if is_record:  # pydantic would take a dict for one
            return isinstance(value, kind)
        with suppress(ValidationError):
            adapter.validate_python(value, strict=True)
            return True
        return False

    def check(value: Any) -> None:
        if not is_one(value):
            within = ", and in it another type than is said" if value.__class__ is get_origin(kind) else ""
            raise EncodeError(f"expected {name}, got {type(value).__name__}{within}")

    return check


def _members(delivery: Delivery) -> Mapping[str, Any]:
    """The members of an envelope; none where it cannot be read."""
    body, encoding = delivery.body, header(delivery.headers, CONTENT_ENCODING)
    try:
        members = json.loads(body if encoding is None else decompress(body, encoding, MAX_DECOMPRESSED))
    except (ValueError, RecursionError, EventMicroError):
        return {}
    return members if isinstance(members, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
