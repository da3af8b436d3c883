"""Writing: what codecs of a registry share: by which schema is written, found when the first event is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

from eventmicro.codec import why_unwritten
from eventmicro.errors import DecodeError, EncodeError, UsageError
from eventmicro.message import Delivery
from eventmicro.topic import takes_none
from eventmicro_kafka.schema_registry.framing import frame, with_header
from eventmicro_kafka.schema_registry.registry import Schema, SchemaRegistry

KIND = "application/vnd.confluent."


class FramedCodec:
    """A codec of one subject.

    Args:
        kind: what the registry calls the language of its schemas.
        schema: what is written by; None: the latest of the subject.
        register: whether that may be put into the registry.
    """

    def __init__(self, registry: SchemaRegistry, kind: str, subject: str, schema: Any, register: bool) -> None:
        if not isinstance(subject, str) or not subject:
            raise UsageError(f"subject={subject!r}: write the schema's subject in the registry, such as 'orders-value'")
        self.registry = registry
        self.content_type = KIND + kind.lower()
        self.subject = subject
        self._kind = kind
        self._schema = None if schema is None else schema if isinstance(schema, str) else json.dumps(schema)
        self._register = register

    def __repr__(self) -> str:
        return f"{self._kind} of {self.subject!r} in {self.registry!r}"

    def handles(self, kind: Any) -> bool:
        """Whether values of this type can be written: those that pydantic knows, but for None, which is no body."""
        return kind not in (bytes, None, type(None)) and not takes_none(kind)

    def frame(self, delivery: Delivery) -> bytes:
        """See `eventmicro.codec.ReadsHeaders`."""
        return with_header(delivery)

    def own_schema(self, kind: Any) -> str | None:
        """The schema of a type, which is registered where none is given; None: it has none."""
        return None

    def written_by(self, kind: Any) -> tuple[bytes, Schema]:
        """The bytes before a body of this type, and its schema.

        Raises:
            NotReady: this is not known yet.
        """
        found: tuple[bytes, Schema] = self.registry.known(
            ("writes", self.content_type, self.subject, self._schema, kind), lambda: self._find(kind)
        )
        return found

    async def _find(self, kind: Any) -> tuple[bytes, Schema]:
        text = self._schema or (self.own_schema(kind) if self._register else None)
        if text is None:
            number, schema = await self.registry.version(self.subject, "latest")
            if schema.kind != self._kind:
                raise UsageError(f"{self.subject!r} in {self.registry!r} is {schema.kind}, and this is {self._kind}")
        else:
            schema = Schema(text, self._kind, ())
            number = await self.registry.number(self.subject, schema, register=self._register)
        return frame(number), schema


def typed(kind: Any) -> Any:
    """Pydantic's adapter of a type.

    Raises:
        UsageError: pydantic knows no such type.
    """
    from pydantic import PydanticSchemaGenerationError, PydanticUndefinedAnnotation, TypeAdapter

    try:
        return TypeAdapter(kind)
    except (PydanticSchemaGenerationError, PydanticUndefinedAnnotation, TypeError) as error:
        raise UsageError(f"{kind!r} cannot be a message: {str(error).splitlines()[0]}") from error


def validated(validate: Callable[[Any], Any], value: Any, kind: Any) -> Any:
    """A value of the type.

    Raises:
        DecodeError: it is none; it says which fields are wrong.
    """
    from pydantic import ValidationError

    try:
        return validate(value)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        name = getattr(kind, "__name__", str(kind))
        raise DecodeError(f"not a valid {name}", [{**each, "loc": list(each["loc"])} for each in wrong]) from None


def refuse(kind: Any, error: BaseException) -> NoReturn:
    """Raise EncodeError for what cannot be written."""
    why, cause = why_unwritten(error)
    raise EncodeError(f"{getattr(kind, '__name__', kind)} cannot be written by its schema: {why}") from cause
