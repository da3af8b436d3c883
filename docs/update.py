"""Writes what is taken from the code: parts of brokers.md and settings.md, schemas of records. [--check]"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from eventmicro_consul import ConsulSettings
from eventmicro_etcd import EtcdSettings
from eventmicro_kafka import KafkaSettings
from eventmicro_mdns import MdnsSettings
from eventmicro_nats import JetStreamSettings, NatsSettings
from eventmicro_rabbitmq import RabbitSettings
from pydantic import BaseModel

from eventmicro import Batch, CallRetry, Compression, Publishing, Retry, Service
from eventmicro.broker import Capabilities
from eventmicro.cli.brokers import FLAGS, one_a_kind, to_markdown
from eventmicro.configuration.known import SERVICE
from eventmicro.configuration.reading import Group
from eventmicro.discovery.health import Health
from eventmicro.memory.settings import MemorySettings
from eventmicro.plugins import installed_brokers
from eventmicro.registry import ServiceRecord

BROKERS = Path(__file__).with_name("brokers.md")
SETTINGS = Path(__file__).with_name("settings.md")
SCHEMAS = Path(__file__).parent.parent / "schemas" / "eventmicro_schemas" / "v1"
RECORD, HEALTH = SCHEMAS / "service_record.schema.json", SCHEMAS / "health.schema.json"
BEGIN, END = "<!-- generated: begin -->\n", "<!-- generated: end -->"

SECTIONS: dict[str, type] = {
    "`Retry`, for `subscribe(retry=...)`": Retry,
    "`CallRetry`, for `call(retry=...)`, `Client(retry=...)` and `Service(retry=...)`": CallRetry,
    "`Batch`, for `subscribe(batch=...)`": Batch,
    "`Publishing`, for `Service(publishing=...)` and `Client(publishing=...)`": Publishing,
    "`Compression`, for `compression=...` of Service, Client and Topic": Compression,
    "`memory://`: arguments of `MemoryBroker`, and what its URL says of them goes before": MemorySettings,
    "`nats://`, `tls://`: `eventmicro_nats.NatsSettings`": NatsSettings,
    "`jetstream://`: `eventmicro_nats.JetStreamSettings`, all of `nats://` and these": JetStreamSettings,
    "`amqp://`, `amqps://`: `eventmicro_rabbitmq.RabbitSettings`": RabbitSettings,
    "`kafka://`, `kafkas://` (or `kafka+ssl://`): `eventmicro_kafka.KafkaSettings`": KafkaSettings,
    "`etcd://`, `etcds://`, a registry: `eventmicro_etcd.EtcdSettings`": EtcdSettings,
    "`mdns://`, a registry: `eventmicro_mdns.MdnsSettings`": MdnsSettings,
    "`consul://`, `consuls://`, a registry: `eventmicro_consul.ConsulSettings`": ConsulSettings,
}


def brokers() -> str:
    """brokers.md with its generated part as it should be."""
    says = dict(meanings(Capabilities))
    words = [f"- `{flag}`: {says[flag]}" for flag in FLAGS]
    generated = [to_markdown(one_a_kind(installed_brokers())), "", "**What the words mean**", "", *words, ""]
    return renewed(BROKERS, "\n".join(generated))


def settings() -> str:
    """settings.md with its generated part as it should be."""
    sections = [f"## {title}\n\n{table(kind)}" for title, kind in SECTIONS.items()]
    return renewed(SETTINGS, "\n".join((f"## Of a service, and of its client\n\n{words()}", *sections)))


def renewed(page: Path, generated: str) -> str:
    """A page with this in place of its generated part."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + generated + END + after


def words() -> str:
    """A line for each word of a Service that can be set outside of its code; those of a Client are among them."""
    takes = inspect.signature(Service).parameters
    explained = {name: text for name, text in arguments(Service) if name in SERVICE}
    rows = [f"| `{name}` | {_default(name, takes[name].default)} | {text} |\n" for name, text in explained.items()]
    return "| name | default | meaning |\n| --- | --- | --- |\n" + "".join(rows)


def _default(name: str, default: Any) -> str:
    if isinstance(group := SERVICE[name], Group):
        return f"none; its parts are those of `{group.kind.__name__}`"
    return "none" if default in ("", ()) else shown(default)


def arguments(kind: type) -> Iterator[tuple[str, str]]:
    """The arguments of a class, as its docstring explains them."""
    explained = (inspect.getdoc(kind) or "").partition("Args:\n")[2]
    for part in re.split(r"\n    (?=\w)", f"\n{explained}"):
        name, _, text = part.partition(": ")
        if text:
            yield name, " ".join((text[0].upper() + text[1:]).split())


def table(kind: type) -> str:
    """A line for each field that a dataclass adds to those that it inherits."""
    defaults = {field.name: field.default for field in fields(kind)}
    rows = [f"| `{name}` | {shown(defaults[name])} | {text} |\n" for name, text in meanings(kind)]
    return "| name | default | meaning |\n| --- | --- | --- |\n" + "".join(rows)


def schema(kind: type[BaseModel]) -> str:
    """The JSON Schema of a model, as it is written."""
    form = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | kind.model_json_schema(mode="serialization")
    return json.dumps(form, indent=2, ensure_ascii=False) + "\n"


def meanings(kind: type) -> Iterator[tuple[str, str]]:
    """The fields of a class and the docstrings behind them."""
    (definition,) = ast.parse(inspect.cleandoc(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    for field, doc in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(doc, ast.Expr), f"{kind.__name__}.{field.target.id} has no docstring"
            yield field.target.id, " ".join(ast.literal_eval(doc.value).split())


def shown(default: Any) -> str:
    """A default as it is written in a URL."""
    if default is None:
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return f"`{','.join(default)}`"
    if isinstance(default, type):
        return f"`{default.__name__}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


if __name__ == "__main__":
    wanted = {BROKERS: brokers(), SETTINGS: settings(), RECORD: schema(ServiceRecord), HEALTH: schema(Health)}
    if "--check" in sys.argv:
        stale = [file.name for file, text in wanted.items() if not file.exists() or file.read_text() != text]
        sys.exit(f"{', '.join(stale)}: not what the code says; run `make docs`" if stale else 0)
    for file, text in wanted.items():
        file.write_text(text)
