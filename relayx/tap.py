"""``twistd relayx``: its options, and the service behind them (contract section 1)."""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
from contextlib import suppress
from typing import Any, NoReturn

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile
from zope.interface import implementer

from relayx.config.faults import ConfigError
from relayx.config.limits import descriptor_line, memory_line, raise_descriptor_limit
from relayx.config.load import Loaded, load, locate
from relayx.config.model import Config, Watch
from relayx.listening import StartError
from relayx.logs import LineObserver, Renderer
from relayx.net.inherited import inherited_here
from relayx.origin import Origin
from relayx.repeats import Unrepeating
from relayx.service import GatewayService
from relayx.systemd import notifier_here
from relayx.watching import FileWatch, Requests

STOP_MARGIN = 5.0
"""Seconds beyond ``data.drain_timeout`` after which a stop hangs."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What stops a gateway (contract section 9)."""

_log = Logger(namespace="relayx")


class Options(usage.Options):
    """What ``twistd relayx`` takes."""

    optParameters = [
        ["config", "c", None, "Configuration file (YAML). [default: configs/config.yaml]"],
        ["env-file", None, None, "Secret file (JSON). [default: .env.local.json]"],
    ]
    longdesc = (
        "Runs the relay gateway. RELAY_CONFIG names the configuration file; RELAY_ENV=dev|test|"
        "prod picks configs/config.<env>.yaml and .env.<env>.json; an option beats both. "
        "'relayx init' writes a first configuration, 'relayx check' validates one."
    )

    def postOptions(self) -> None:
        """Choose the reactor that serves sessions first, where none was chosen."""
        chosen = "twisted.internet.reactor" in sys.modules
        if not chosen and hasattr(select, "epoll"):
            from relayx.reactor import install

            install()


def _fail(text: str) -> NoReturn:
    """End with one clear error and exit status 1."""
    if sys.__stderr__ is not None:
        print(f"relayx: {text}", file=sys.__stderr__)
    raise SystemExit(1)


def makeService(options: Options, reactor: Any = None) -> IService:
    """The gateway for `options`; ends the process with status 1 where they are wrong."""
    if reactor is None:
        from twisted.internet import reactor
    try:
        sources = locate(os.environ, options["config"], options["env-file"])
        loaded = load(sources)
        raise_descriptor_limit(loaded.config, str(sources.config))
    except ConfigError as error:
        _fail("the configuration is not valid\n" + "\n".join(map(str, error.faults)))
    return Runner(options, loaded, reactor)


@implementer(IService)
class Runner(MultiService):
    """Runs one gateway under twistd: its log, its signals, and its exit status.

    twistd itself would end by the signal that stopped it (status 143); the contract wants 0.
    """

    def __init__(self, options: Options, loaded: Loaded, reactor: Any) -> None:
        super().__init__()
        self._server_options: Any = options.parent or {}
        self._loaded = loaded
        self._reactor = reactor
        self._signalled = False
        self._mask: set[int] = set()
        self._origin = Origin(loaded.sources)
        self._renderer = Renderer(loaded.config.log.level, loaded.config.log.format)
        self._unrepeating: Unrepeating | None = None
        self._requests = Requests(reactor, self._reload)
        self._watch = FileWatch(reactor, self._paths, self._requests.ask, self._not_told)
        self._supervisor = notifier_here()
        self.gateway = GatewayService(
            loaded.config, loaded.secrets, reactor, inherited_here(), self._origin
        )
        self.gateway.when_drained_on_demand = self.stop
        self.gateway.reloading.when_tried.append(self._watch.take_note)
        self.gateway.reloading.when_applied.append(self._reloaded)
        self.gateway.setServiceParent(self)
        self._watch.take_note()

    def setServiceParent(self, parent: Any) -> None:
        """Take part in an application, whose log is ours from now on."""
        if isinstance(parent, Componentized) and not self._server_options.get("syslog"):
            observer = LineObserver(self._log_file(), self._renderer)
            self._unrepeating = Unrepeating(self._reactor, observer, self._renderer)
            self.gateway.repeats.append(self._unrepeating.repeats)
            parent.setComponent(ILogObserver, self._unrepeating)
        super().setServiceParent(parent)

    def _log_file(self) -> Any:
        name = self._server_options.get("logfile")
        if name == "-" or (not name and self._server_options.get("nodaemon", True)):
            return sys.stdout
        return LogFile.fromFullPath(name or "twistd.log")

    def privilegedStartService(self) -> None:
        """Listen, or end the process with one error."""
        # Whoever sees us listen may send a signal. One that stops us waits until we are able to.
        signal.signal(signal.SIGHUP, self._on_hangup)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        for warning in self._loaded.warnings:
            _log.warn("{text}", text=str(warning))
        try:
            with self._origin.there():
                super().privilegedStartService()
        except StartError as error:
            self._remove_pid_file()
            if not self._server_options.get("nodaemon", True):
                _log.error("{text}", text=str(error))
                self._tell_parent(str(error))
            _fail(str(error))

    def _tell_parent(self, text: str) -> None:
        """twistd's first process waits for its daemon to say how it went, or for ever."""
        status_pipe = self._server_options.get("statusPipe")
        if status_pipe is not None:
            os.write(status_pipe, b"1 " + text.encode()[:98])

    def _remove_pid_file(self) -> None:
        """twistd leaves its file behind when the process ends before it runs."""
        pid_file = self._server_options.get("pidfile")
        if pid_file:
            with suppress(OSError):
                os.unlink(pid_file)

    def startService(self) -> None:
        """Serve, and stop in order on SIGTERM and SIGINT."""
        config = self._loaded.config
        super().startService()
        for line in (descriptor_line(config), memory_line(config)):
            _log.info("{text}", text=line, always=True)  # whatever the level
        self._reloaded(config)
        self._reactor.callWhenRunning(self._handle_signals)
        self._reactor.callWhenRunning(self._tell_supervisor)
        # All modules and ports are there to stay. To look through them again with every full
        # collection would hold the gateway up for 50 ms each time.
        gc.collect()
        gc.freeze()

    def _tell_supervisor(self) -> None:
        self._supervisor.ready(self.gateway.summary())
        self._supervisor.start_watchdog(self._reactor)

    def stopService(self) -> Deferred[Any]:
        """Drain, and let the supervisor wait for it; reload no more."""
        self._requests.stop()
        self._watch.stop()
        config = self.gateway.config
        linger = max((broker.linger for broker in config.zmq.brokers), default=0) / 1000
        limit = config.data.drain_timeout + linger + STOP_MARGIN
        self._supervisor.stopping("draining", limit)
        stopped: Deferred[Any] = super().stopService()
        return stopped.addBoth(self._stopped)

    def _stopped(self, result: Any) -> Any:
        self._supervisor.stop_watchdog()
        if self._unrepeating is not None:
            self._unrepeating.close()
        return result

    # reloading

    def _reload(self) -> None:
        if self.gateway.draining.draining:
            text = "a reload was asked for, and is ignored: the gateway is stopping"
            self.gateway.say("info", "reload_ignored", text)
            return
        self._supervisor.reloading()
        with suppress(ConfigError):  # it is logged
            self.gateway.reload()
        self._supervisor.ready(self.gateway.summary())

    def _paths(self) -> list[str]:
        return self._origin.paths(self.gateway.config)

    def _not_told(self, why: str) -> None:
        self.gateway.say("warn", "config_warning", f"reload.watch: {why}")

    def _reloaded(self, config: Config) -> None:
        """Another configuration is in force, or the first one."""
        self._renderer.change(config.log.level, config.log.format)
        self._watch.take_note_of_others()
        if config.reload.watch is Watch.ON:
            self._watch.start()
        else:
            self._watch.stop()

    # signals

    def _handle_signals(self) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _on_signal(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self.stop)

    def _on_hangup(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self._requests.ask)

    def stop(self) -> None:
        """Stop the reactor, which drains first; a second time, do not wait for sessions."""
        if self._signalled:
            self.gateway.end_sessions()
            return
        self._signalled = True
        with suppress(ReactorNotRunning):
            self._reactor.stop()
