"""Taking another configuration while the gateway runs: all of it, or nothing of it.

It is read and checked as at the start, compared with the one in force, and refused where a key
has changed that cannot change live (:mod:`relayx.config.diff`). What may still fail, such as a
certificate that does not fit its key or a port that is taken, is tried before anything changes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from OpenSSL.SSL import Context
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from relayx.audit import AuditLog, Record
from relayx.authentication import Authentication, Say
from relayx.brokering import Brokering
from relayx.config.diff import Files, changes, restart_faults
from relayx.config.faults import ConfigError, Fault
from relayx.config.limits import descriptors_needed, raise_descriptor_limit
from relayx.config.load import Loaded
from relayx.config.model import Config, Secrets
from relayx.control.factory import ControlFactory
from relayx.core import effects as fx
from relayx.core.board import numbers
from relayx.core.messages import Protocol as PortProtocol
from relayx.core.switchboard import Switchboard
from relayx.impact import Impact
from relayx.net.address import Networks
from relayx.net.listening import reason
from relayx.net.proxied import ProxiedFactory
from relayx.net.sources import Failures
from relayx.net.tls import ServerFiles, ServerTls, TlsFileError, load_context
from relayx.planes import Planes, SrtUnusableError
from relayx.security.keydir import KeyFileError
from relayx.settings import (
    control_settings,
    data_settings,
    load_data_tls,
    policies,
    rules,
    srt_settings,
    zmq_settings,
)
from relayx.trust import Keys, KeyWatch, read_keys
from relayx.zmq.settings import BrokerSettings


class StartedFrom(Protocol):
    """The files that the gateway was started with."""

    def read(self) -> Loaded:
        """Read and check them.

        :raises ConfigError: with every fault.
        """

    def there(self) -> AbstractContextManager[None]:
        """Be in the directory that relative paths are from."""


_log = Logger(namespace="relayx")


@dataclass(frozen=True)
class Parts:
    """What of the gateway goes by the configuration.

    :ivar tls: of the control endpoints; `proxied` what reads PROXY headers there.
    :ivar http_tls: of the operators' endpoint, which asks for no certificates.
    """

    reactor: Any
    switchboard: Switchboard
    control: ControlFactory
    data: Planes
    brokering: Brokering
    authentication: Authentication
    failures: Failures
    key_watch: KeyWatch
    record: Record
    tls: list[ServerTls]
    proxied: list[ProxiedFactory]
    http_tls: list[ServerTls]


@dataclass(frozen=True)
class _Ready:
    """All that could fail and did not."""

    tls: list[tuple[ServerTls, ServerFiles, Context]]
    data_tls: Context | None
    keys: Keys
    audit: AuditLog | None
    brokers: tuple[BrokerSettings, ...]


class Reloading:
    """The configuration in force, and how another takes its place.

    :param parts: what goes by it.
    :param perform: carries out effects.
    :param say: writes a line in the log.
    :param origin: the files; None where there are none.
    :ivar listens: whether data ports are listened on, so that new ones are, too.
    :ivar revision: 1 at the start, one more with each reload that is applied.
    :ivar last_ok: whether the last reload was applied, True before the first.
    :ivar last_at: when it was tried, in seconds since the epoch; 0.0 before the first.
    :ivar last_faults: why it was refused.
    :ivar applied: how many were; `refused` likewise.
    :ivar when_tried: called before each reload.
    :ivar when_applied: called with the configuration after each that is applied.
    :ivar when_refused: called after each that is not.
    """

    def __init__(
        self,
        parts: Parts,
        config: Config,
        secrets: Secrets,
        perform: Callable[[list[fx.Effect]], None],
        say: Say,
        origin: StartedFrom | None = None,
    ) -> None:
        self.listens = False
        self.revision = 1
        self.last_ok = True
        self.last_at = 0.0
        self.last_faults: tuple[Fault, ...] = ()
        self.applied = self.refused = 0
        self.when_tried: list[Callable[[], None]] = []
        self.when_refused: list[Callable[[], None]] = []
        self.when_applied: list[Callable[[Config], None]] = []
        self._parts = parts
        self._files = Files.read(config, secrets)
        self._perform = perform
        self._say = say
        self._origin = origin

    # for those who ask

    def plan(self, config: Config | None = None, secrets: Secrets | None = None) -> Impact:
        """What :meth:`reload` would do; nothing changes, and it does not count as one.

        :raises ConfigError: where the files are wrong. What is right and cannot be applied is
            told in the `faults` of the answer.
        """
        with self._there():
            loaded = self._load(config, secrets)
            file = loaded.sources.config
            impact = self._impact(Files.read(loaded.config, loaded.secrets), file)
            faults = (*impact.faults, *self._taken(loaded.config, file))
            return msgspec.structs.replace(impact, faults=faults)

    def reload(self, config: Config | None = None, secrets: Secrets | None = None) -> Impact:
        """Read the files and apply what they say, or refuse it as a whole.

        :param config: instead of the file's; `secrets` likewise.
        :raises ConfigError: with every fault found; all stays as it was.
        """
        self.last_at = self._parts.reactor.seconds()
        for tell in self.when_tried:
            tell()
        try:
            with self._there():
                loaded = self._load(config, secrets)
                new = Files.read(loaded.config, loaded.secrets)
                impact = self._impact(new, loaded.sources.config)
                if impact.faults:
                    raise ConfigError(impact.faults)
                self._apply(new, impact, loaded.sources.config)
        except ConfigError as error:
            self._refuse(error)
            raise
        except Exception as error:
            _log.failure("a reload failed")
            text = f"the reload failed, see the log: {type(error).__name__}"
            unforeseen = ConfigError([Fault("relayx", "", "", text)])
            self._refuse(unforeseen)
            raise unforeseen from error
        for warning in loaded.warnings:
            self._say("warn", "config_warning", str(warning))
        return impact

    def refuse(self, text: str) -> ConfigError:
        """The error of a reload that cannot even be tried; it counts as refused."""
        self.last_at = self._parts.reactor.seconds()
        error = ConfigError([Fault("relayx", "", "", text)])
        self._refuse(error)
        return error

    # the steps

    def _there(self) -> AbstractContextManager[None]:
        return nullcontext() if self._origin is None else self._origin.there()

    def _load(self, config: Config | None, secrets: Secrets | None) -> Loaded:
        if config is None or secrets is None:
            if self._origin is None:
                raise ConfigError([Fault("relayx", "", "", "was started without files to reload")])
            loaded = self._origin.read()
            config, secrets = config or loaded.config, secrets or loaded.secrets
            return msgspec.structs.replace(loaded, config=config, secrets=secrets)
        return Loaded.given(config, secrets)

    def _impact(self, new: Files, file: str) -> Impact:
        switchboard = self._parts.switchboard
        found = changes(self._files, new)
        touched = switchboard.touched_by(rules(new.config).ports)
        faults = restart_faults(file, found)
        faults += [
            Fault(
                file, "relay.srt_start_port", str(number),
                "would change its protocol, and a session runs on it",
                "to take it out first, and add it again when its session has ended",
            )
            for number in touched.blocked
        ]  # fmt: skip
        before, after = switchboard.board.policies, policies(new.config.clients)
        otherwise = {
            client.client_id
            for client in switchboard.clients()
            if before.of(client.asked_id) != after.of(client.asked_id)
        }
        return Impact(
            revision=self.revision + 1,
            changes=tuple(found),
            ports_added=touched.added,
            ports_removed=touched.removed,
            ports_kept=touched.kept,
            sessions=touched.sessions,
            leases=touched.leases,
            clients=tuple(sorted({*touched.clients, *otherwise})),
            waiting=touched.waiting,
            faults=tuple(faults),
        )

    def _apply(self, new: Files, impact: Impact, file: str) -> None:
        with ExitStack() as undo:
            ready = self._make_ready(new, file, undo)
            undo.pop_all()
        for change in impact.changes:
            if change.key == "audit.file":  # the file that ends here says so
                now = self._parts.reactor.seconds()
                self._parts.record.write(now, "reloaded", str(change), {})
        self._switch(new, ready)
        self.revision = impact.revision
        self.last_ok, self.last_faults = True, ()
        self.applied += 1
        for tell in self.when_applied:
            tell(new.config)
        for change in impact.changes:
            self._say("info", "reloaded", str(change))
        self._say("info", "reloaded", str(impact))

    def _make_ready(self, new: Files, file: str, undo: ExitStack) -> _Ready:
        """Do all that can fail; `undo` is left with how to undo it.

        :raises ConfigError: where something does.
        """
        config, parts, before = new.config, self._parts, self._files.config
        if descriptors_needed(config) > descriptors_needed(before):
            raise_descriptor_limit(config, file)
        try:
            files = [
                (tls, msgspec.structs.replace(tls.files, client_ca=config.control.client_ca))
                for tls in parts.tls
            ]
            files += [(tls, tls.files) for tls in parts.http_tls]
            tls = [(each, told, load_context(told)) for each, told in files]
            data_tls = load_data_tls(config.data.tls)
            keys = read_keys(config.security)
            brokers = zmq_settings(config)
        except TlsFileError as error:
            raise ConfigError([Fault(error.path, "", "", error.problem)]) from None
        except KeyFileError as error:
            raise ConfigError([Fault(error.path, "", "", error.problem, error.allowed)]) from None
        if config.relay.ports("srt") and self.listens and not parts.data.srt_begun:
            try:
                self._say("info", "srt", parts.data.begin_srt(srt_settings(config, new.secrets)))
            except SrtUnusableError as error:
                raise ConfigError([Fault(file, "srt", "", str(error))]) from None
        undo.callback(parts.data.keep_listening, dict(numbers(rules(before).ports)))
        for number, protocol in self._added(config):
            try:
                parts.data.listen(number, protocol)
            except (CannotListenError, OSError) as error:
                fault = _cannot_listen(config, file, number, protocol, error)
                raise ConfigError([fault]) from None
        path = config.audit.file
        try:
            audit = parts.record.open(path) if path != before.audit.file else None
        except OSError as error:
            problem = f"cannot be opened: {error.strerror}"
            raise ConfigError([Fault(file, "audit.file", path, problem)]) from None
        return _Ready(tls, data_tls, keys, audit, brokers)

    def _added(self, config: Config) -> list[tuple[int, PortProtocol]]:
        """The ports that are not listened on yet, each with its protocol."""
        brokered = {p for one in config.zmq.brokers for p in (one.frontend, one.backend)}
        if not self.listens:
            return []
        return [
            (number, protocol)
            for number, protocol in numbers(rules(config).ports)
            if number not in brokered and not self._parts.data.listens(number, protocol)
        ]

    def _taken(self, config: Config, file: str) -> list[Fault]:
        """A fault for each port that cannot be listened on now."""
        faults = []
        for number, protocol in self._added(config):
            try:
                self._parts.data.try_listening(number, protocol)
            except OSError as error:
                faults.append(_cannot_listen(config, file, number, protocol, error))
        return faults

    def _switch(self, new: Files, ready: _Ready) -> None:
        """Go by the new configuration."""
        config, parts = new.config, self._parts
        before, self._files = self._files.config, new
        if config.audit.file != before.audit.file:
            parts.record.use(ready.audit)
        else:
            parts.record.reopen()
        parts.authentication.replace(new.secrets, config.clients)
        parts.failures.limit = config.limits.failures_per_minute
        parts.failures.block = config.limits.failure_block
        parts.key_watch.use(ready.keys)
        parts.key_watch.start()
        for tls, files, context in ready.tls:
            tls.replace(files, context)
        parts.data.set_tls(ready.data_tls)
        trusted = Networks(config.proxy_protocol.trusted)
        told = config.control
        for proxied in parts.proxied:
            proxied.change(trusted, told.register_timeout, told.max_unregistered)
        parts.brokering.change(ready.brokers)
        parts.control.change(control_settings(config))
        parts.data.change(data_settings(config), srt_settings(config, new.secrets))
        parts.switchboard.replace_policies(policies(config.clients))
        parts.data.keep_listening(dict(numbers(rules(config).ports)))
        self._perform(parts.switchboard.replace_rules(rules(config)))

    @property
    def secrets(self) -> Secrets:
        """What the secret file in force holds."""
        return self._files.secrets

    def _refuse(self, error: ConfigError) -> None:
        self.last_ok, self.last_faults = False, error.faults
        self.refused += 1
        for tell in self.when_refused:
            tell()
        text = f"the configuration stays at revision {self.revision}: {error}"
        self._say("error", "reload_failed", text)


def _cannot_listen(
    config: Config, file: str, number: int, protocol: PortProtocol, error: BaseException
) -> Fault:
    first = config.relay.ports(protocol)[0]
    problem = f"begins a range whose port {number} cannot be listened on: {reason(error)}"
    return Fault(file, f"relay.{protocol}_start_port", str(first), problem)
