"""The texts of ``relayx systemd`` (systemd.service(5), systemd.exec(5), systemd.socket(5))."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from relayx.config.limits import descriptors_wanted
from relayx.config.listeners import EVERY, EVERY_IPV4, Listener, known, listeners
from relayx.config.model import Config

PLAIN_DESCRIPTORS = 65536
"""LimitNOFILE, unless the configuration needs more."""

_SERVICE = """\
# The relayx gateway. In /etc/systemd/system/; a user for it:
#   useradd --system --home-dir /var/lib/relayx --shell /usr/sbin/nologin relayx
# Read what it does: journalctl -u relayx

[Unit]
Description=relayx relay gateway
After=network-online.target
Wants=network-online.target
# With relayx.socket enabled, a restart refuses no connection: systemd keeps the ports open
# meanwhile. The service works without it as well.
After=relayx.socket

[Service]
# It says itself when it listens, and that it still turns; twice in WatchdogSec.
Type=notify
NotifyAccess=main
WatchdogSec=30s
ExecStart={command}
# Reads the files again; whether that worked is in the log.
ExecReload=/bin/kill -HUP $MAINPID
WorkingDirectory={directory}
{environment}User=relayx
Group=relayx
# SIGTERM drains: running sessions get data.drain_timeout, and systemd is told to wait for it.
KillMode=mixed
Restart=on-failure
RestartSec=1s
# What relayx check sums up, with room. It raises its own soft limit up to this.
LimitNOFILE={descriptors}

# For files that it writes: audit.file: /var/log/relayx/audit.jsonl
StateDirectory=relayx
LogsDirectory=relayx
UMask=0077

# It reads its files and uses the network; nothing else is there for it.
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
NoNewPrivileges=yes
# Ports below 1024 need CAP_NET_BIND_SERVICE here and in AmbientCapabilities, or relayx.socket.
CapabilityBoundingSet=
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
# Not MemoryDenyWriteExecute: certificates of clients are verified by a callback of pyOpenSSL's,
# which needs such memory.

[Install]
WantedBy=multi-user.target
"""

_SOCKETS = """\
# The ports of the relayx gateway for {source}, by relayx systemd --sockets.
# systemd listens, and hands them to relayx.service, which finds out by their addresses what each
# is for. Make it anew when the ports change: systemd knows no ranges. Then
#   systemctl daemon-reload && systemctl restart relayx.socket relayx.service
# To stop for good, stop both: who dials would have the service started again.

[Unit]
Description=ports of the relayx relay gateway

[Socket]
{streams}
BindIPv6Only=both
Backlog=512
# An address may come up later than this.
FreeBind=yes

[Install]
WantedBy=sockets.target
"""


class Paths(msgspec.Struct, frozen=True):
    """What a service unit names; absolute paths.

    :ivar directory: where relative paths of the configuration begin.
    :ivar environment: ``RELAY_ENV``, "" where it is not set.
    """

    twistd: str
    config: str
    secrets: str
    directory: str
    environment: str = ""


def service_unit(paths: Paths, config: Config) -> str:
    """``relayx.service``."""
    words = [
        *(paths.twistd, "--nodaemon", "--pidfile=", "relayx"),
        *("-c", paths.config, "--env-file", paths.secrets),
    ]
    environment = f"Environment=RELAY_ENV={paths.environment}\n" if paths.environment else ""
    return _SERVICE.format(
        command=" ".join(map(_word, words)),
        directory=paths.directory.replace("%", "%%"),
        environment=environment,
        descriptors=max(PLAIN_DESCRIPTORS, descriptors_wanted(config)),
    )


def socket_unit(source: str, config: Config) -> str:
    """``relayx.socket``: what clients dial, a line a port."""
    lines: list[str] = []
    for listener in listeners(config):
        if listener.purpose == "http":
            continue  # for operators, who can wait
        if not listener.ports:
            lines.append(f"# {' '.join(listener.text.split())} is not for this unit")
    brokered = {port for one in config.zmq.brokers for port in (one.frontend, one.backend)}
    if brokered:
        lines.append("# ports of zmq.brokers are not for this unit: libzmq opens them itself")
    lines += _streams(known(listeners(config)), brokered)
    return _SOCKETS.format(source=" ".join(source.split()), streams="\n".join(lines))


def _streams(each: Iterable[Listener], brokered: set[int]) -> list[str]:
    lines = []
    for listener in each:
        if listener.purpose == "http":
            continue
        host = "127.0.0.1" if listener.interface == "localhost" else listener.interface
        if host not in (EVERY, EVERY_IPV4) and listener.address is None and not listener.is_local:
            lines.append(f"# {listener.purpose} on {host}: systemd needs its address here")
            continue
        where = f"[{host}]" if ":" in host else host
        lines.append(f"# {listener.purpose}")
        lines += [f"ListenStream={where}:{port}" for port in listener.ports if port not in brokered]
    return lines


def _word(text: str) -> str:
    """A word of a command line as systemd reads one."""
    escaped = text.replace("%", "%%").replace("$", "$$")
    if escaped.isprintable() and not set(escaped) & set(" \t'\"\\;"):
        return escaped
    quoted = escaped.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'
