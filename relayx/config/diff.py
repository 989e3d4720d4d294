"""What is different between two configurations, and what of it can change while the gateway runs.

:data:`APPLIES` is the one place that says so for each key. A key that is not in it needs a
restart; a test wants every key of the model to be there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import msgspec

from relayx.config.convert import Key, section_keys, sections
from relayx.config.durations import format_duration
from relayx.config.endpoints import ssl_files
from relayx.config.faults import Fault
from relayx.config.keys import Section
from relayx.config.model import ClientPolicy, Config, Secrets

HIDDEN = "(hidden)"
"""Stands where a secret would be shown."""

_MOST_SHOWN = 200
_OTHER_CONTENTS = "the same, with other contents"


class Applies(StrEnum):
    """For whom another value of a key holds, once it is reloaded."""

    NOW = "now"
    NEW_CONNECTIONS = "new connections"
    NEW_SESSIONS = "new sessions"
    RESTART = "restart"


def _of(applies: Applies, section: str, *names: str) -> dict[str, Applies]:
    return {f"{section}.{name}": applies for name in names}


APPLIES: Mapping[str, Applies] = MappingProxyType({
    **_of(Applies.NOW, "relay", "max_fe", "max_be", "reaper_timeout"),
    **_of(Applies.NOW, "relay", "srt_start_port", "srt_end_port"),
    **_of(Applies.NOW, "relay", "zmq_start_port", "zmq_end_port"),
    **_of(Applies.NEW_SESSIONS, "relay", "ring_buffer_size"),
    **_of(Applies.RESTART, "relay", "control_port"),
    **_of(Applies.RESTART, "control", "endpoints"),
    **_of(Applies.NOW, "control", "register_timeout", "idle_timeout", "max_message_bytes"),
    **_of(Applies.NOW, "control", "max_outbox_bytes", "max_unregistered"),
    **_of(Applies.NEW_CONNECTIONS, "control", "client_ca"),
    **_of(Applies.RESTART, "data", "interface", "splice"),
    **_of(Applies.NOW, "data", "advertise_host", "hello_timeout", "max_waiting_hello"),
    **_of(Applies.NOW, "data", "admission", "drain_quiet", "drain_limit", "drain_timeout"),
    **_of(Applies.NOW, "data", "session_idle_timeout", "half_close_timeout"),
    **_of(Applies.NEW_CONNECTIONS, "data", "be_on_fe_close", "keepalive"),
    **_of(Applies.NEW_CONNECTIONS, "data.tls", "certificate", "private_key", "required"),
    **_of(Applies.RESTART, "srt", "enabled", "dial", "packetfilter"),
    **_of(Applies.NOW, "srt", "bridge", "fan_out"),
    **_of(Applies.NEW_CONNECTIONS, "srt", "latency", "peerlatency", "maxbw", "inputbw"),
    **_of(Applies.NEW_CONNECTIONS, "srt", "oheadbw", "pbkeylen", "rcvbuf", "sndbuf", "mss"),
    **_of(Applies.NEW_CONNECTIONS, "srt", "fc", "snddropdelay", "tlpktdrop", "lossmaxttl"),
    **_of(Applies.NEW_CONNECTIONS, "srt", "conntimeo", "payloadsize"),
    **_of(Applies.NEW_SESSIONS, "zmq", "inspect", "max_message_bytes"),
    **_of(Applies.RESTART, "zmq", "brokers"),
    **_of(Applies.NOW, "security", "signing", "keys", "trusted_keys", "on_expired"),
    **_of(Applies.NEW_CONNECTIONS, "proxy_protocol", "trusted"),
    **_of(Applies.NEW_CONNECTIONS, "limits", "control_per_source"),
    **_of(Applies.NOW, "limits", "unregistered_per_source", "failures_per_minute"),
    **_of(Applies.NOW, "limits", "failure_block", "waiting_hello_per_source"),
    **_of(Applies.NOW, "limits", "messages_per_second", "leases_per_client"),
    **_of(Applies.RESTART, "http", "endpoint", "heap"),
    **_of(Applies.NOW, "http", "hosts"),
    **_of(Applies.NOW, "log", "level", "format", "stream"),
    **_of(Applies.NOW, "reload", "watch"),
    **_of(Applies.NOW, "audit", "file"),
    "clients": Applies.NOW,
    "auth_secret": Applies.NEW_CONNECTIONS,
    "auth_secret_previous": Applies.NEW_CONNECTIONS,
    "relay_public_key": Applies.NOW,
    "admin_token": Applies.NOW,
    "srt_passphrase": Applies.NEW_CONNECTIONS,
})  # fmt: skip
"""By dotted key of the configuration, and by key of the secret file."""


class Change(msgspec.Struct, frozen=True):
    """One key that is different, with its values as they may be shown.

    :ivar key: the dotted key; an entry of ``clients`` by its pattern, as ``clients[cam-*].roles``.
    """

    key: str
    old: str
    new: str
    applies: Applies

    def __str__(self) -> str:
        return f"{self.key}: {self.old} -> {self.new}"


class Files(msgspec.Struct, frozen=True):
    """Two files that were read and checked, and the names of what they name."""

    config: Config
    secrets: Secrets
    contents: dict[str, str]

    @classmethod
    def read(cls, config: Config, secrets: Secrets) -> Files:
        """Look at what is in the files that a configuration names."""
        return cls(config, secrets, contents(config))


def applies(key: str) -> Applies:
    """For whom another value of a key holds; an entry of ``clients`` is as ``clients``."""
    return APPLIES.get(key.partition("[")[0], Applies.RESTART)


def changes(old: Files, new: Files) -> list[Change]:
    """Every key that is different, in the order of the files; never a secret's value."""
    found = []
    for name, section in sections().items():
        before, after = _section(old.config, name), _section(new.config, name)
        for bare, key in section_keys(section).items():
            one, two = getattr(before, bare), getattr(after, bare)
            if one != two:
                found.append(_change(key.name, _written(key, one), _written(key, two)))
            elif old.contents.get(key.name) != new.contents.get(key.name):
                found.append(_change(key.name, _written(key, one), _OTHER_CONTENTS))
    found += _clients(old.config.clients, new.config.clients)
    for field in msgspec.structs.fields(Secrets):
        if getattr(old.secrets, field.name) != getattr(new.secrets, field.name):
            found.append(_change(field.name, HIDDEN, HIDDEN))
    return found


def restart_faults(file: str, found: list[Change]) -> list[Fault]:
    """The faults for what cannot change while the gateway runs."""
    return [
        Fault(
            file, change.key, change.new,
            f"cannot change while the gateway runs, from {change.old}: a restart is needed",
        )
        for change in found
        if change.applies is Applies.RESTART
    ]  # fmt: skip


def named_files(config: Config) -> dict[str, tuple[str, ...]]:
    """The files and directories that a configuration names, by key; relative ones as they are."""
    found = {
        "control.client_ca": (config.control.client_ca,),
        "data.tls.certificate": (config.data.tls.certificate,),
        "data.tls.private_key": (config.data.tls.private_key,),
        "security.keys": (config.security.keys,),
        "security.trusted_keys": (config.security.trusted_keys,),
        "zmq.brokers": tuple(broker.curve_clients for broker in config.zmq.brokers),
        "control.endpoints": _of_endpoints(config.control.endpoints),
        "http.endpoint": _of_endpoints([config.http.endpoint] if config.http.endpoint else []),
    }
    there = {key: tuple(filter(None, paths)) for key, paths in found.items()}
    return {key: paths for key, paths in there.items() if paths}


def _of_endpoints(endpoints: Iterable[str]) -> tuple[str, ...]:
    return tuple(
        path
        for endpoint in endpoints
        if (told := ssl_files(endpoint)) is not None
        for path in (told.certificate, told.private_key, told.chain)
    )


def contents(config: Config) -> dict[str, str]:
    """A digest of what is in the files of each key that names some."""
    return {key: _digest(paths) for key, paths in named_files(config).items()}


def _digest(paths: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        inside = sorted(os.listdir(path)) if os.path.isdir(path) else []
        for each in [os.path.join(path, name) for name in inside] or [path]:
            data = _bytes(each)
            digest.update(f"{each}:{len(data)}:".encode("utf-8", "replace") + data)
    return digest.hexdigest()


def _bytes(path: str) -> bytes:
    if not os.path.isfile(path):  # opening a named pipe would wait
        return b""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        return str(error).encode()


def _section(config: Config, name: str) -> Section:
    found: Any = config
    for part in name.split("."):
        found = getattr(found, part)
    section: Section = found
    return section


def _change(name: str, old: str, new: str) -> Change:
    when = applies(name)
    # Files of endpoints are read again; what they listen on cannot change.
    if when is Applies.RESTART and new == _OTHER_CONTENTS:
        when = Applies.NEW_CONNECTIONS
    return Change(name, old, new, when)


def _clients(old: tuple[ClientPolicy, ...], new: tuple[ClientPolicy, ...]) -> Iterator[Change]:
    before, after = {e.match: e for e in old}, {e.match: e for e in new}
    for match in [*before, *(match for match in after if match not in before)]:
        name = f"clients[{match}]"
        one, two = before.get(match), after.get(match)
        if one is None or two is None:
            yield _change(name, *(("absent", "there") if one is None else ("there", "absent")))
            continue
        for bare, key in section_keys(ClientPolicy, name).items():
            values = getattr(one, bare), getattr(two, bare)
            if values[0] != values[1]:
                hidden = bare == "secret_hash"
                texts = [HIDDEN if hidden and v else _written(key, v) for v in values]
                yield _change(f"{name}.{bare}", *texts)
    order = [match for match in after if match in before]
    previous = [match for match in before if match in after]
    if order != previous:
        shown = [", ".join(each)[:_MOST_SHOWN] for each in (previous, order)]
        yield _change("clients", *shown)


def _written(key: Key, value: Any) -> str:
    """A value as the file may have it."""
    if value is None:
        return "absent"
    if key.is_duration:
        return format_duration(value)
    if key.is_credential:
        return HIDDEN if value else '""'
    if key.entry is not None:
        return _cut(_entries(key, value))
    return _cut(_text(value))


def _entries(key: Key, entries: tuple[Section, ...]) -> str:
    """The entries of a list, each with what is not its default."""
    told = []
    for entry in entries:
        values = [
            (bare, each, getattr(entry, bare))
            for bare, each in section_keys(type(entry), key.name).items()
        ]
        parts = [f"{n}: {_written(each, value)}" for n, each, value in values
                 if value != each.default]  # fmt: skip
        told.append("{" + ", ".join(parts) + "}")
    return "[" + ", ".join(told) + "]"


def _text(value: Any) -> str:
    return str(value) if isinstance(value, StrEnum) else json.dumps(value)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"
