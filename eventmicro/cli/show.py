"""How messages, replies and errors look in a terminal: readable, and never able to steer it."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import typer

from eventmicro.errors import ServiceError
from eventmicro.message import Delivery


def examples(*lines: str) -> str:
    """The end of a command's help: examples, one a line."""
    return "\n\n".join(("Examples:", *lines))


def show_reply(body: bytes) -> None:
    """Print a reply: JSON indented, anything else as it is, with its bytes untouched unless a terminal shows them."""
    if not body:
        return
    try:
        text = json.dumps(json.loads(body), indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        _show_bytes(body)
        return
    print_json_text(text)


def print_json_text(text: str) -> None:
    """Print what is JSON already, in colours on a terminal; what steers one is escaped, as JSON allows."""
    text = printable(text)
    if not sys.stdout.isatty():
        typer.echo(text)
        return
    from rich.console import Console  # it takes as long to import as many a command takes to run
    from rich.json import JSON

    Console().print(JSON(text), soft_wrap=True)


def show_raw(body: bytes) -> None:
    """Print a reply as it came, with nothing added; on a terminal without what could steer that."""
    if body:
        _show_bytes(body)


def show_pairs(pairs: Mapping[str, str]) -> None:
    """Print metadata on stderr, a line each."""
    for name, value in pairs.items():
        typer.echo(one_line(f"{name}: {value}"), err=True)


def show_error(error: ServiceError) -> None:
    """Print what a service answered instead of a reply: where, code, detail, and the fields that are wrong."""
    typer.echo(one_line(f"{error.id}: {error.code} {error.status}"), err=True)
    if error.detail:
        typer.echo(f"  {indented(error.detail)}", err=True)
    for part in error.errors:
        place = ".".join(map(str, part.get("loc", ()))) or "(body)"
        typer.echo(f"  {one_line(place)}: {indented(str(part.get('msg', part)))}", err=True)


def as_line(delivery: Delivery) -> str:
    """A message in a line: its subject and its body, compact JSON or a Python bytes literal."""
    try:
        body = json.dumps(json.loads(delivery.body), separators=(",", ":"), ensure_ascii=False)
    except ValueError:
        body = repr(delivery.body)
    return one_line(f"{delivery.subject} {body}")


def as_raw_line(delivery: Delivery) -> str:
    """The body of a message alone, in a line: text as it is, or else a Python bytes literal."""
    try:
        return one_line(delivery.body.decode())
    except UnicodeDecodeError:
        return repr(delivery.body)


def as_json_line(delivery: Delivery) -> str:
    """A message in a line for programs."""
    form: dict[str, Any] = {"subject": delivery.subject, "headers": delivery.headers or {}}
    return json.dumps(form | as_json_form(delivery.body))


def as_json_form(body: bytes) -> dict[str, Any]:
    """A body as part of a JSON object: as `body`, or as `base64` where it is no JSON."""
    try:
        form = {"body": json.loads(body)}
        json.dumps(form, allow_nan=False)
    except (ValueError, RecursionError):
        return {"base64": base64.b64encode(body).decode()}
    return form


def as_body(body: bytes) -> str:
    """A body for a person: indented JSON, a text with its further lines below the first, or a Python bytes literal."""
    try:
        return printable(json.dumps(json.loads(body), indent=2, ensure_ascii=False))
    except (ValueError, RecursionError):
        pass
    try:
        return indented(body.decode())
    except UnicodeDecodeError:
        return repr(body)


def as_item_line(body: bytes) -> str:
    """A message of a stream in a line, which is always JSON: what is none is in base64."""
    try:
        form = json.loads(body)
        line = json.dumps(form, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        line = json.dumps({"base64": base64.b64encode(body).decode()})
    return printable(line)


def as_object(value: Any) -> str:
    """A JSON object in a line, which steers no terminal."""
    return printable(json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def print_line(line: str) -> bool:
    """Whether there is still somebody who reads."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        drop(sys.stdout.fileno())
        return False
    return True


def drop(*descriptors: int) -> None:
    """Let what is written there go nowhere, so that nobody fails who writes, the interpreter's flush at the end too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for each in descriptors:
        os.dup2(nowhere, each)
    os.close(nowhere)


def _show_bytes(body: bytes) -> None:
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
        return
    try:
        typer.echo(printable(body.decode()))
    except UnicodeDecodeError:
        typer.echo(repr(body))


def one_line(text: str) -> str:
    """The same for what has to stay within its line, so that nobody can write a line in another's name.

    `wire.one_line` is for logs: it cuts what is long, and escapes as Python does; here what is JSON stays that, whole.
    """
    return printable(text).replace("\n", "\\n")


def indented(text: str) -> str:
    """The same for what may have several lines, which then all stand below what it belongs to."""
    return printable(text).replace("\n", "\n    ")


def printable(text: str) -> str:
    """The text with what could steer a terminal escaped as in JSON; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
