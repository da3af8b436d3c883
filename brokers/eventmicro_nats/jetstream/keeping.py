"""Whether a stream keeps what is promised of it: that what is confirmed is there until all of its queues have had it.

A stream that was made from here bears a mark. One of the same name without it is somebody else's: it is used where it
keeps all of that, for the subjects that it takes, and never changed.
"""

from __future__ import annotations

from typing import Any

from eventmicro.errors import UsageError
from eventmicro_nats.settings import JetStreamSettings

NANO = 1_000_000_000
# The metadata of a stream that was made from here.
MARK = {"eventmicro": "stream"}
# What lets events expire by themselves; once set it stays so.
EXPIRES = "allow_msg_ttl"
RENAMES = "it has a subject_transform"


def placeholder(stream: str) -> str:
    """A subject that nobody publishes: a stream has one at least, and ours has this one."""
    return f"$EVENTMICRO.{stream}"


def is_ours(config: dict[str, Any]) -> bool:
    """Whether it was made from here; versions before the mark are known by a subject."""
    metadata, subjects = config.get("metadata") or {}, config.get("subjects") or ()
    return MARK.items() <= metadata.items() or placeholder(config["name"]) in subjects


def marked(config: dict[str, Any]) -> dict[str, Any]:
    """The same with the mark where it is ours, as earlier versions made it without."""
    return config | {"metadata": {**(config.get("metadata") or {}), **MARK}} if is_ours(config) else config


def check_own(config: dict[str, Any], settings: JetStreamSettings) -> None:
    """Refuse the stream of the setting `stream` where it does not keep events, or not as is set.

    Raises:
        UsageError: it says which of its settings is in the way.
    """
    _check_set(config, settings)
    wrong = [*_unusable(config), *_losses(config)]
    if config.get("retention", "limits") != "limits":
        wrong.append(f"retention={config['retention']}")
    if not is_ours(config):
        wrong += _unasked(config, settings)
    if wrong:
        raise UsageError(
            f"stream {settings.stream} was not made by eventmicro or was changed, and does not keep what is confirmed: "
            f"{'; '.join(wrong)}; change that, or have another one made by stream=NAME"
        )


def check_other(config: dict[str, Any], settings: JetStreamSettings) -> str:
    """What a stream of another name, which whoever runs the server has made, does not keep; empty where it keeps all.

    Raises:
        UsageError: nothing can be published to it.
    """
    unusable = [why for why in _unusable(config) if why != RENAMES]  # it is stored all the same
    if unusable:
        raise UsageError(f"stream {config['name']} cannot be used: {'; '.join(unusable)}; change that")
    return losses(config, settings)


def losses(config: dict[str, Any], settings: JetStreamSettings) -> str:
    """By what a stream loses events that wait in its queues; empty where it keeps all."""
    return "; ".join([*_losses(config), *_in_memory(config, settings)])


def _check_set(config: dict[str, Any], settings: JetStreamSettings) -> None:
    """Refuse one that is made otherwise than was set, where it was set."""
    wanted = set_otherwise(config, settings)
    if wanted:
        there = "; ".join(f"{said(key, config.get(key))}, not {_value(key, value)}" for key, value in wanted.items())
        how = "by `eventmicro declare --change`" if is_ours(config) else "or have another one made by stream=NAME"
        mend = f"change the setting, or the stream, {how}"
        if "storage" in wanted:
            mend = "its storage stays as it was made: change the setting, or have another one made by stream=NAME"
        raise UsageError(f"stream {settings.stream} exists with {there}: {mend}")


def set_otherwise(config: dict[str, Any], settings: JetStreamSettings) -> dict[str, Any]:
    """What is to be changed of a stream, so that it is as was set."""
    wanted, default = stream_config(settings, []), stream_config(JetStreamSettings(), [])
    return {key: wanted[key] for key in SET if wanted[key] not in (default[key], config.get(key))}


def with_window(config: dict[str, Any]) -> dict[str, Any]:
    """The same where ids are known no longer than events are kept: a server refuses it otherwise."""
    window, age = config.get("duplicate_window", 0), config.get("max_age", 0)
    return config | {"duplicate_window": min(window, age)} if age else config


# How what a stream is made by is called in our settings.
SET = {"storage": "storage", "num_replicas": "replicas", "max_age": "max_age", "max_bytes": "max_bytes"}


def said(key: str, value: Any) -> str:
    """A setting of a stream, in the words and the units of ours."""
    return f"{SET[key]}={_value(key, value)}"


def _value(key: str, value: Any) -> str:
    return f"{value / NANO:g} s" if key == "max_age" and value else str(value)


def _unusable(config: dict[str, Any]) -> list[str]:
    """Why nothing that is published to it is confirmed, or comes to its queues."""
    wrong = [f"{key}=true" for key in ("no_ack", "sealed") if config.get(key)]
    if config.get("mirror"):
        wrong.append("it has a mirror, so that nothing can be published to it")
    if config.get("allow_msg_counter"):
        wrong.append("allow_msg_counter=true, which takes numbers only")
    return wrong + ([RENAMES] if config.get("subject_transform") else [])


def _losses(config: dict[str, Any]) -> list[str]:
    """By what it drops events that were confirmed, settled or not."""
    wrong = []
    if config.get("discard", "old") == "old":
        full = [f"{key}={config[key]}" for key in ("max_msgs", "max_bytes") if config.get(key, -1) > 0]
        wrong += [f"{limit} with discard=old, which drops the oldest" for limit in full]
    if config.get("max_msgs_per_subject", -1) > 0 and not config.get("discard_new_per_subject"):
        wrong.append(f"max_msgs_per_subject={config['max_msgs_per_subject']} without discard_new_per_subject")
    if config.get("persist_mode", "default") == "async":
        wrong.append("persist_mode=async, which confirms before it is on disk")
    return wrong


def fills_up(config: dict[str, Any]) -> str:
    """The limits at which a stream takes no more; empty where it has none, or drops what is old."""
    limits = ("max_msgs", "max_bytes", "max_msgs_per_subject") if config.get("discard") == "new" else ()
    return ", ".join(f"{limit}={config[limit]}" for limit in limits if config.get(limit, -1) > 0)


def _in_memory(config: dict[str, Any], settings: JetStreamSettings) -> list[str]:
    kept = config.get("storage") == settings.storage or config.get("storage") == "file"
    return [] if kept else ["storage=memory, which is not asked for by storage=memory"]


def _unasked(config: dict[str, Any], settings: JetStreamSettings) -> list[str]:
    """What would be well if it were set here."""
    wrong, age = _in_memory(config, settings), config.get("max_age", 0) / NANO
    return (
        [*wrong, f"max_age={age:g} s, which is not asked for by max_age={age:g}"] if age != settings.max_age else wrong
    )


def stream_config(settings: JetStreamSettings, subjects: list[str]) -> dict[str, Any]:
    """How a stream is made from here."""
    window = min(settings.duplicate_window, settings.max_age or settings.duplicate_window)
    return {
        "name": settings.stream,
        "subjects": subjects,
        "storage": settings.storage,
        "num_replicas": settings.replicas,
        "max_age": int(settings.max_age * NANO),
        "max_bytes": settings.max_bytes,
        "discard": "new",
        "duplicate_window": int(window * NANO),
        "metadata": MARK,
    }
