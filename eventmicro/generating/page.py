"""A page to read, of an AsyncAPI document: one HTML file without scripts, to be put anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from eventmicro.wire import one_line

Part = dict[str, Any]

STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 3rem; } h3 { margin-top: 2rem; }
code { background: #f3f3f3; padding: .1em .3em; border-radius: 3px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd; }
section { scroll-margin-top: 1rem; } .note { color: #666; } nav li { display: inline; margin-right: 1rem; }
@media (prefers-color-scheme: dark) { body { background: #1b1b1b; color: #ddd; } code { background: #333; }
th, td { border-color: #444; } a { color: #8ab4f8; } .note { color: #aaa; } }
"""


def write_page(document: Part) -> str:
    """The document as a page."""
    info = document["info"]
    title = _shown(f"{info['title']} {info['version']}")
    return "".join(
        (
            "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n",
            "<meta name='viewport' content='width=device-width, initial-scale=1'>\n",
            f"<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n",
            _text(info.get("description", "")),
            *_servers(document),
            *_operations(document),
            *_schemas(document),
            "</body>\n</html>\n",
        )
    )


def _servers(document: Part) -> Iterator[str]:
    for server in document.get("servers", {}).values():
        yield f"<p class='note'>{_shown(server['protocol'])} at <code>{_shown(server['host'])}</code></p>\n"


def _operations(document: Part) -> Iterator[str]:
    yield "<h2>What it takes</h2>\n<nav><ul>\n"
    operations = document.get("operations", {})
    for name in operations:
        yield f"<li><a href='#{_shown(name)}'>{_shown(name)}</a></li>\n"
    yield "</ul></nav>\n"
    for name, operation in operations.items():
        yield f"<section id='{_shown(name)}'>\n<h3>{_shown(name)}</h3>\n{_text(operation.get('description', ''))}"
        channel = _find(document, operation["channel"])
        kind = "a call" if "reply" in operation else "an event"
        stream = f", a {_shown(operation['x-stream'])} stream" if "x-stream" in operation else ""
        yield f"<p>{kind}{stream} on <code>{_shown(channel.get('x-subject') or channel['address'])}</code></p>\n"
        yield from _messages(document, "takes", operation["messages"])
        if "reply" in operation:
            yield from _messages(document, "replies", operation["reply"]["messages"])
        yield "</section>\n"


def _messages(document: Part, word: str, references: list[Part]) -> Iterator[str]:
    for reference in references:
        message = _find(document, _find(document, reference))
        written = _kind(message["payload"]) if "payload" in message else _shown(message.get("contentType", "nothing"))
        yield f"<p>{word} {written}</p>\n"


def _schemas(document: Part) -> Iterator[str]:
    schemas = document.get("components", {}).get("schemas", {})
    if schemas:
        yield "<h2>Types</h2>\n"
    for name, schema in schemas.items():
        yield f"<section id='type-{_shown(name)}'>\n<h3>{_shown(name)}</h3>\n{_text(schema.get('description', ''))}"
        if "enum" in schema:
            yield f"<p>one of {', '.join(f'<code>{_shown(str(each))}</code>' for each in schema['enum'])}</p>\n"
        if schema.get("properties"):
            yield "<table>\n<tr><th>field</th><th>type</th><th></th><th></th></tr>\n"
            for field, each in schema["properties"].items():
                needed = "" if field in schema.get("required", ()) else "optional"
                about = _shown(str(each.get("description", ""))) if isinstance(each, dict) else ""
                cells = f"<code>{_shown(field)}</code>", _kind(each), needed, about
                yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n"
            yield "</table>\n"
        yield "</section>\n"


def _kind(schema: Any) -> str:
    """A schema in a few words, with links to the types."""
    if not isinstance(schema, dict):
        return "anything"
    if "$ref" in schema:
        name = _shown(str(schema["$ref"]).rpartition("/")[2])
        return f"<a href='#type-{name}'>{name}</a>"
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return " or ".join(map(_kind, schema[word]))
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(f"<code>{_shown(str(each))}</code>" for each in values)
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_kind(schema.get('items'))}"
    name = " or ".join(kind) if isinstance(kind, list) else str(kind)
    return _shown(f"{name} ({schema['format']})" if "format" in schema else name)


def _find(document: Part, part: Part) -> Part:
    """What a reference stands for; what is none stands for itself."""
    if "$ref" not in part:
        return part
    found: Any = document
    for word in part["$ref"].removeprefix("#/").split("/"):
        found = found[word.replace("~1", "/").replace("~0", "~")]
    return dict(found)


def _shown(text: str) -> str:
    """A text as a page may have it: no markup of its own, and nothing that turns letters round."""
    return escape("\n".join(one_line(line, len(line)) for line in text.split("\n")))


def _text(text: str) -> str:
    return "".join(f"<p>{_shown(each)}</p>\n" for each in text.split("\n\n") if each)
