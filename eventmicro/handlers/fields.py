"""Parameters that are the fields of a message: `async def quote(sku: str, quantity: int = 1) -> Quote`.

One parameter is the message itself, whatever its type; several are its fields.
The model that they make is an ordinary one, `QuoteRequest`, made once, when the handler is declared.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eventmicro.codecs.protobuf import is_protobuf
from eventmicro.errors import SignatureError

# What classes of messages have: those of pydantic, dataclasses, msgspec, attrs.
_MARKS = ("model_fields", "__dataclass_fields__", "__struct_fields__", "__attrs_attrs__")

_PARAMETERS = "__eventmicro_parameters__"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the message that is a parameter of the handler."""

    name: str
    hint: Any
    default: Any
    """`inspect.Parameter.empty` where it has none."""

    def __str__(self) -> str:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return str(inspect.Parameter(self.name, kind, annotation=self.hint, default=self.default))


def is_message(kind: Any) -> bool:
    """Whether this is a class that somebody has made for messages."""
    return isinstance(kind, type) and (is_protobuf(kind) or any(hasattr(kind, each) for each in _MARKS))


def make_model(function: Callable[..., Any], suffix: str, fields: Sequence[Field], name: str) -> Any:
    """The model of these fields, `QuoteRequest` for a function `quote`.

    Args:
        name: what to call the handler in errors.

    Raises:
        SignatureError: a parameter cannot be a field of a message; the message says why.
    """
    from pydantic import BaseModel, ConfigDict, PydanticUserError, create_model

    for each in fields:
        if each.name.startswith("_") or (each.name.startswith("model_") and hasattr(BaseModel, each.name)):
            raise SignatureError(f"{name}: {each.name!r} cannot be the field of a message: give it another name")
    given: dict[str, Any] = {each.name: (each.hint, _default(each)) for each in fields}
    title = _camel(getattr(function, "__name__", "") or "handler") + suffix
    config = ConfigDict(protected_namespaces=())
    try:
        with warnings.catch_warnings():  # of a name such as `schema`, which stands in the way of nothing here
            warnings.filterwarnings("ignore", message="Field name .* shadows an attribute")
            model = create_model(title, __config__=config, __module__=function.__module__, **given)
    except (PydanticUserError, NameError, ValueError, TypeError) as error:
        why = str(error).partition("\n")[0]
        raise SignatureError(f"{name}: its parameters cannot be the fields of a message: {why}") from error
    setattr(model, _PARAMETERS, tuple(fields))
    return model


def fields_of(kind: Any) -> tuple[Field, ...]:
    """The parameters of which a model was made; none where it is another type."""
    found: tuple[Field, ...] = getattr(kind, _PARAMETERS, ())
    return found


def _default(field: Field) -> Any:
    return ... if field.default is inspect.Parameter.empty else field.default


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))
