"""Two hosts in one machine: network namespaces of the test's own, joined by a cable."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

from twisted.trial.unittest import SkipTest

NEAR, FAR = "10.77.41.1", "10.77.41.2"
_CLONE_NEWNET = 0x40000000


def _enter(namespace: str) -> None:
    """Put the calling thread, and what it opens and starts from now on, on that host."""
    handle = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter network namespace {namespace}")
    finally:
        os.close(handle)


class TwoHosts:
    """Two network namespaces with a link between them.

    :ivar near: runs calls on the gateway's host; `far` on the other.
    """

    def __init__(self) -> None:
        self._names = tuple(f"relayx{os.getpid()}{side}" for side in "ab")
        self.near = ThreadPoolExecutor(1)
        self.far = ThreadPoolExecutor(1)

    def make(self) -> None:
        """Make both hosts; skip where the system does not let us."""
        if shutil.which("ip") is None or os.geteuid() != 0:
            raise SkipTest("needs root and the ip command of iproute2")
        near, far = self._names
        commands = (
            f"netns add {near}",
            f"netns add {far}",
            f"link add {near} netns {near} type veth peer name {far} netns {far}",
            f"-n {near} address add {NEAR}/24 dev {near}",
            f"-n {far} address add {FAR}/24 dev {far}",
            *(f"-n {name} link set {device} up" for name in self._names for device in ("lo", name)),
        )
        for command in commands:
            try:
                self._ip(command)
            except (OSError, subprocess.CalledProcessError) as error:
                raise SkipTest(f"network namespaces cannot be made here: {error}") from None
        self.near.submit(_enter, near).result()
        self.far.submit(_enter, far).result()

    def _ip(self, command: str) -> None:
        subprocess.run(["ip", *command.split()], check=True, capture_output=True)

    def cut(self) -> None:
        """Take the link down: from now on every packet between the hosts is lost."""
        self._ip(f"-n {self._names[1]} link set {self._names[1]} down")

    def remove(self) -> None:
        """Remove what was made."""
        for host in (self.near, self.far):
            host.shutdown(wait=True)
        for name in self._names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
