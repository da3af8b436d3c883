"""Writes what is taken from the code: part of brokers.md, all of settings.md, schemas of records. [--check]"""

from __future__ import annotations

import ast
import inspect
import json
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

from eventmicro import Batch, CallRetry, Compression, Publishing, Retry
from eventmicro.broker import Capabilities
from eventmicro.cli.brokers import FLAGS, one_a_kind, to_markdown
from eventmicro.discovery.health import Health
from eventmicro.plugins import installed_brokers
from eventmicro.registry import ServiceRecord

BROKERS = Path(__file__).with_name("brokers.md")
SETTINGS = Path(__file__).with_name("settings.md")
SCHEMAS = Path(__file__).parent.parent / "schemas" / "eventmicro_schemas" / "v1"
RECORD, HEALTH = SCHEMAS / "service_record.schema.json", SCHEMAS / "health.schema.json"
BEGIN, END = "<!-- generated: begin -->\n", "<!-- generated: end -->"

INTRODUCTION = """\
# Settings

Times are seconds, sizes bytes. Written by `make docs` after the docstrings.

What is set for a **subscriber** is in [delivery.md](delivery.md). In a **URL** settings follow behind `?`, `&` between
them: `jetstream://a:4222,b:4222?replicas=3&tls_ca=ca.pem`. In code they are an object:
`NatsBroker(settings=NatsSettings(...))`.
"""
SECTIONS: dict[str, type] = {
    "`Retry`, for `subscribe(retry=...)`": Retry,
    "`CallRetry`, for `call(retry=...)`, `Client(retry=...)` and `Service(retry=...)`": CallRetry,
    "`Batch`, for `subscribe(batch=...)`": Batch,
    "`Publishing`, for `Service(publishing=...)` and `Client(publishing=...)`": Publishing,
    "`Compression`, for `compression=...` of Service, Client and Topic": Compression,
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
    before, _, rest = BROKERS.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    says = dict(meanings(Capabilities))
    words = [f"- `{flag}`: {says[flag]}" for flag in FLAGS]
    generated = [to_markdown(one_a_kind(installed_brokers())), "", "**What the words mean**", "", *words, ""]
    return before + BEGIN + "\n".join(generated) + END + after


def settings() -> str:
    """All of settings.md."""
    return INTRODUCTION + "".join(f"\n## {title}\n\n{table(kind)}" for title, kind in SECTIONS.items())


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
