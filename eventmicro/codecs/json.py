"""JSON by pydantic-core: bytes to typed values and back, with no dict in between.

pydantic is loaded when the first type is compiled: it is most of the time that importing takes, and a program that only
passes bytes on does without it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, get_origin

from eventmicro.codec import Decoder, Encoder
from eventmicro.codecs.finite import find_null, finite_check
from eventmicro.errors import DecodeError, EncodeError, UsageError
from eventmicro.wire import JSON

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

# How many wrong fields are looked at: a peer that sends a million wrong values gets a short answer.
MAX_ERRORS = 50
# How much of a field's name it tells, in characters: of a dict's fields the peer makes up the names.
MAX_FIELD_NAME = 100


class JsonCodec:
    """Whatever pydantic knows: models, dataclasses, typed dicts, lists, dicts, scalars, unions."""

    content_type = JSON

    def handles(self, kind: Any) -> bool:
        return kind not in (bytes, None, type(None))

    def encoder(self, kind: Any) -> Encoder:
        adapter = _adapter(kind)
        to_json = adapter.serializer.to_json
        check = _instance_check(kind) if _is_record(kind) else _strict_check(adapter)
        check_finite = finite_check(adapter, _name(kind))
        _refuse_wrong_fields()

        def encode(value: Any) -> bytes:
            if value.__class__ is not kind:
                check(value)
            try:
                body = to_json(value, by_alias=True)
                if check_finite is not None and find_null(body):
                    check_finite(value)
                return body
            except (ValueError, RecursionError, UserWarning) as error:
                raise EncodeError(f"{_name(kind)} cannot be written as JSON: {error}") from error

        return encode

    def decoder(self, kind: Any) -> Decoder:
        from pydantic import ValidationError

        adapter = _adapter(kind)
        validate_json = adapter.validator.validate_json
        takes_none = _takes_none(adapter)

        def decode(body: bytes) -> Any:
            try:
                return validate_json(body)
            except ValidationError as error:
                if not body and takes_none:
                    return None
                raise _decode_error(kind, error) from None

        return decode


def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter

    try:
        return TypeAdapter(kind)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise UsageError(f"{_name(kind)} cannot be a message: {str(error).splitlines()[0]}") from None


def _is_record(kind: Any) -> bool:
    """Whether the class of a value says enough about it: its fields were validated when it was made."""
    from pydantic import BaseModel

    return isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind))


def _refuse_wrong_fields() -> None:
    """Make an error of what pydantic only warns of: a field that was set to another type after validation.

    `to_json(warnings="error")` would do so too, for three times the time. The filter holds for this module alone.
    """
    warnings.filterwarnings("error", "Pydantic serializer warnings", UserWarning, __name__.replace(".", r"\."))


def _instance_check(kind: type) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if not isinstance(value, kind):
            raise EncodeError(f"expected {kind.__name__}, got {type(value).__name__}")

    return check


def _strict_check(adapter: TypeAdapter[Any]) -> Callable[[Any], None]:
    from pydantic import ValidationError

    def check(value: Any) -> None:
        try:
            adapter.validate_python(value, strict=True)
        except ValidationError as error:
            raise EncodeError(str(error)) from None

    return check


def _decode_error(kind: Any, error: ValidationError) -> DecodeError:
    """What was wrong, without the input and without anything of the inside."""
    count = error.error_count()
    if count > MAX_ERRORS:
        return DecodeError(f"not a valid {_name(kind)}: {count} errors")
    entries = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [{"loc": [_short(part) for part in e["loc"]], "msg": e["msg"], "type": e["type"]} for e in entries]
    return DecodeError(f"not a valid {_name(kind)}", errors)


def _short(part: int | str) -> int | str:
    return part[:MAX_FIELD_NAME] if isinstance(part, str) else part


def _takes_none(adapter: TypeAdapter[Any]) -> bool:
    """Whether None is a value of the type, for which an empty body stands as well as `null`."""
    try:
        return adapter.validator.validate_python(None) is None
    except Exception:  # a ValidationError, or whatever a validator of the user's raises at None
        return False


def _name(kind: Any) -> str:
    """The type as its author writes it: `Order`, `list[Order]`."""
    if isinstance(kind, type) and get_origin(kind) is None:
        return kind.__name__
    return re.sub(r"[\w.<>]+\.(?=\w)", "", str(kind))
