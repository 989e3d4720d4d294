"""A gateway as a child process, which does not outlive its parent (contract section 10)."""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from relayx.cli.running import Failed

HOST = "127.0.0.1"
PORTS = range(10240, 32768)
"""Where free ports are looked for: below those that the system gives out by itself."""
ATTEMPTS = 200
KEPT_OUTPUT = 16 * 1024
STOP_TIMEOUT = 5.0

_CHILD = (
    "import sys; root = sys.argv.pop(1); root in sys.path or sys.path.append(root); "
    "from relayx.cli.gateway_child import child_main; child_main()"
)


def child_main() -> None:
    """What the child runs: twistd, with the arguments of this process."""
    from twisted.scripts.twistd import run

    with suppress(PermissionError):
        os.setsid()  # Ctrl-C at the terminal is the parent's to act on
    threading.Thread(target=_die_with_parent, daemon=True).start()
    run()


def _die_with_parent() -> None:
    """End this process when nobody holds the other end of its standard input any more."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def child_arguments(directory: Path) -> list[str]:
    """The command of the child, for the files that `write_files` makes.

    Neither PATH nor the working directory says where twistd and relayx are.
    """
    root = Path(__file__).resolve().parents[2]
    return [
        *(sys.executable, "-c", _CHILD, str(root)),
        *("-n", "--pidfile", str(directory / "twistd.pid"), "relayx"),
        *("-c", str(directory / "config.yaml"), "--env-file", str(directory / "secrets.json")),
    ]


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the child: nothing in it chooses another configuration."""
    return {n: v for n, v in environ.items() if not n.startswith(("RELAY_", "RELAYX_"))}


def free_ports(count: int, ports: range = PORTS, choose: Any = random.randrange) -> range:
    """That many free TCP ports in a row on loopback.

    Another process may take one before it is used; who uses them looks for others then.

    :param choose: takes the bounds of a range and returns one of its numbers.
    :raises Failed: where there is no such row.
    """
    for _ in range(ATTEMPTS):
        start = choose(ports.start, ports.stop - count + 1)
        found = range(start, start + count)
        if _are_free(found):
            return found
    raise Failed(f"no {count} free ports in a row on {HOST}, {ports.start} to {ports.stop - 1}")


def _are_free(ports: range) -> bool:
    with ExitStack() as open_sockets:
        for port in ports:
            listener = open_sockets.enter_context(socket.socket())
            # As the gateway does; else a port with connections that just ended looks taken.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, port))
                listener.listen(1)
            except OSError:
                return False
    return True


class GatewayChild(ProcessProtocol):
    """The process.

    :ivar ended: fires with a sentence when it has ended.
    """

    transport: Any

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._output = b""
        self.ended: Deferred[str] = Deferred()

    def start(self, directory: Path) -> None:
        """Start it on the files in a directory."""
        arguments = child_arguments(directory)
        self._reactor.spawnProcess(
            self,
            arguments[0],
            arguments,
            env=child_environment(os.environ),
            path=str(directory),
        )

    @property
    def output(self) -> str:
        """The last of what it has written."""
        return self._output.decode(errors="replace")

    @property
    def could_not_listen(self) -> bool:
        """Whether it ended because somebody else has one of its ports."""
        return bool(self.ended.called) and "cannot listen on" in self.output

    def outReceived(self, data: bytes) -> None:
        """Keep what it logs."""
        self._output = (self._output + data)[-KEPT_OUTPUT:]

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        """It is gone, and all its output is here."""
        last = self.output.strip().rpartition("\n")[2]
        self.ended.callback(f"the gateway has ended: {last or reason.getErrorMessage()}")

    async def stop(self) -> None:
        """Stop it in order, or else by force; returns when it is gone."""
        if self.ended.called:
            return
        self._signal(signal.SIGTERM)
        force = self._reactor.callLater(STOP_TIMEOUT, self._signal, signal.SIGKILL)
        gone: Deferred[None] = Deferred()
        self.ended.addBoth(lambda _: gone.callback(None))
        await gone
        if force.active():
            force.cancel()

    def kill(self) -> None:
        """End it at once and wait for that, without the reactor."""
        pid = getattr(self.transport, "pid", None)
        if pid is None or self.ended.called:
            return
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _signal(self, number: int) -> None:
        pid = getattr(self.transport, "pid", None)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
