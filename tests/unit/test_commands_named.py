"""A command that an error or a page names exists, with its options: whoever is told to type it can."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from eventmicro.cli.app import app

ROOT = Path(__file__).parents[2]
FOLDERS = ("eventmicro", "brokers", "backends", "docs", "examples")
CODE = [path for folder in FOLDERS for kind in ("*.py", "*.md") for path in sorted((ROOT / folder).rglob(kind))]
PLACES = [*CODE, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
OURS = re.compile(r"""[`$] ?eventmicro ([a-z][a-z-]*)((?: [^`"'\n|&#]+)?)""")

# What other programs know, as their own help says: nats 0.2 and later (reset: of nats-server 2.14), Kafka 3.9,
# RabbitMQ 3.10.
KNOWN = {
    "nats": {
        "stream add": "--subjects --discard --defaults --max-age --max-bytes --replicas --dupe-window --storage",
        "stream edit": "--subjects --max-age --max-bytes --replicas --dupe-window --discard --allow-msg-ttl --metadata",
        "stream purge": "--force",
        "stream info": "",
        "stream rm": "--force",
        "stream ls": "",
        "consumer add": "--pull --filter --ack --deliver --max-deliver --max-pending --wait --defaults",
        "consumer rm": "--force",
        "consumer info": "",
        "consumer edit": "--wait --max-pending",
        "consumer pause": "",
        "consumer resume": "--force",
        "consumer reset": "",
        "kv add": "--marker-ttl --ttl --replicas --storage",
    },
    "kafka-topics.sh": {"": "--bootstrap-server --create --delete --topic --describe --list --alter --partitions"},
    "kafka-consumer-groups.sh": {"": "--bootstrap-server --delete --group --describe --reset-offsets --list"},
    "kafka-configs.sh": {"": "--bootstrap-server --alter --entity-type --entity-name --add-config --describe"},
    "kafka-acls.sh": {"": "--bootstrap-server --add --allow-principal --operation --topic --group --cluster --list"},
    "kafka-delete-records.sh": {"": "--bootstrap-server --offset-json-file"},
    "kafka-storage.sh": {"": "--standalone"},
    "kafka-server-start.sh": {"": ""},
    "rabbitmqctl": {
        "delete_queue": "",
        "list_queues": "",
        "set_permissions": "",
        "add_user": "",
        "set_policy": "",
        "list_user_permissions": "",
        "set_user_limits": "",
        "set_vhost_limits": "",
    },
    "rabbitmqadmin": {"delete exchange": "", "declare binding": ""},
}
THEIRS = re.compile(
    r"(nats (?:stream|consumer|kv)(?= [a-z])|kafka-[a-z-]+\.sh|rabbitmqctl(?= \w+_)|rabbitmqadmin)((?: [^`\n]*)?)"
)


def ours() -> Iterator[tuple[str, str, list[str]]]:
    """Where one of our commands is named, which, and its options."""
    for path in PLACES:
        for named in OURS.finditer(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(ROOT)}: {named[0]!r}", named[1], re.findall(r"(?<=\s)--[a-z-]+", named[2])


def options(command: Any) -> set[str]:
    return {name for each in command.params for name in (*each.opts, *each.secondary_opts)}


def test_each_of_ours_exists_with_its_options() -> None:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    wrong, seen = [], set()
    for where, name, used in ours():
        if name not in commands:
            wrong.append(where)
            continue
        seen.add(name)
        parts = getattr(commands[name], "commands", {}).values()
        known = {"--help"}.union(*map(options, (commands[name], *parts)))
        wrong += [f"{where}: {option}" for option in used if option not in known]
    assert wrong == []
    assert {"run", "services", "declare", "check"} <= seen


def test_each_of_others_is_one_that_they_know() -> None:
    wrong, count = [], 0
    for path in PLACES:
        for named in THEIRS.finditer(path.read_text(encoding="utf-8")):
            tool, rest = named[1].split()[0], " ".join((*named[1].split()[1:], named[2].strip()))
            count += 1
            able = next((words for words in KNOWN[tool] if rest.startswith(words)), None) if tool in KNOWN else None
            used = re.findall(r"(?<=\s)--[a-z-]+", f" {rest}")
            if able is None or [option for option in used if option not in KNOWN[tool][able].split()]:
                wrong.append(f"{path.relative_to(ROOT)}: {named[0]!r}")
    assert wrong == []
    assert count > 5


@pytest.mark.parametrize("command", list(KNOWN["rabbitmqctl"]))
def test_rabbitmqctl_knows_its_own(command: str) -> None:
    program = shutil.which("rabbitmqctl")
    if program is None:
        pytest.skip("rabbitmqctl is not installed")
    done = subprocess.run([program, "help", command], capture_output=True, text=True, timeout=60, check=False)
    assert f"{command} " in done.stdout or f"{command}\n" in done.stdout
