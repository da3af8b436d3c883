"""Golden files: what an app sends, on record byte for byte, so that nobody changes it without knowing."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any, Literal

from eventmicro.errors import DecodeError, EventMicroError, describe_fields
from eventmicro.forwarding import TRACEPARENT, TRACESTATE

UPDATE_VARIABLE = "EVENTMICRO_TEST_UPDATE_GOLDEN"
UPDATE_OPTION = "--eventmicro-update-golden"

Kind = Literal["event", "request", "reply", "error"]


@dataclass(frozen=True, slots=True)
class Example:
    """A message as it was sent.

    subject: of a reply, or an error, the endpoint that was called.
    """

    kind: Kind
    subject: str
    headers: Mapping[str, str]
    body: bytes


def compare(
    path: Path,
    examples: Iterable[Example],
    without: frozenset[str],
    read: Callable[[Example], None],
    *,
    update: bool,
) -> None:
    """Hold what was sent to a file, or write the file.

    Raises:
        AssertionError: there is none, they differ, or a message in it can be read no more.
    """
    sent = _write(examples, without | {TRACEPARENT, TRACESTATE})
    if update:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sent.encode())
        return
    if not path.exists():
        raise AssertionError(f"{path} is not there yet: write it by `pytest {UPDATE_OPTION}`, and look at it")
    on_record = path.read_bytes().decode()
    _check_readable(path, on_record, read)
    if on_record != sent:
        lines = unified_diff(on_record.splitlines(), sent.splitlines(), str(path), "what was sent", lineterm="")
        raise AssertionError(
            "\n".join((f"other bytes than in {path}; where that is meant, `pytest {UPDATE_OPTION}`:", *lines))
        )


def _write(examples: Iterable[Example], without: frozenset[str]) -> str:
    """The messages by their subjects, in the order in which they were sent there."""
    found: dict[str, list[dict[str, Any]]] = {}
    for each in examples:
        headers = {name: text for name, text in sorted(each.headers.items()) if name.lower() not in without}
        form: dict[str, Any] = {"kind": each.kind}
        if headers:
            form["headers"] = headers
        found.setdefault(each.subject, []).append(form | _written(each.body))
    return json.dumps(dict(sorted(found.items())), indent=2, ensure_ascii=False) + "\n"


def _written(body: bytes) -> dict[str, str]:
    """A body as text, where it is one that can be read."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(body).decode()}
    return {"body": text} if text.isprintable() else {"base64": b64encode(body).decode()}


def _check_readable(path: Path, text: str, read: Callable[[Example], None]) -> None:
    try:
        record = json.loads(text)
        examples = [
            Example(form["kind"], subject, form.get("headers", {}), _body(form))
            for subject, several in record.items()
            for form in several
        ]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        text = f"{path} is no golden file ({error!r}): write it anew by `pytest {UPDATE_OPTION}`"
        raise AssertionError(text) from None
    for example in examples:
        try:
            read(example)
        except EventMicroError as error:
            what = f"the {example.kind} on {example.subject} in {path} can be read no more"
            fields = describe_fields(error.errors) if isinstance(error, DecodeError) else ""
            raise AssertionError(f"{what}: who has not been updated still sends it; {error}{fields}") from error


def _body(form: Mapping[str, str]) -> bytes:
    return form["body"].encode() if "body" in form else b64decode(form["base64"], validate=True)
