"""A host of a test's own: a network namespace, a folder, and ``relayx`` and ``twistd`` on the PATH.

For commands of the documentation, which are run as they stand there: their ports are fixed, so
they must be nobody else's. Commands are given to bash as a reader gives them to a shell.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.relayx_process import environment

DEADLINE = 120.0
"""Seconds that anything may take: other tests run at the same time."""

PROGRAMS = {
    "relayx": "from relayx.cli.__main__ import main; main()",
    "twistd": "from twisted.scripts.twistd import run; run()",
}


def named_blocks(page: Path) -> dict[str, str]:
    """The shell commands of a page, by the ``:name:`` of their ``code-block``."""
    found = {}
    pattern = r"^\.\. code-block:: sh\n   :name: (\S+)\n\n((?:(?:   .*)?\n)+)"
    for name, body in re.findall(pattern, page.read_text(), re.MULTILINE):
        found[name] = textwrap.dedent(body).strip() + "\n"
    return found


class Shell:
    """Commands that run, with all that they have written so far."""

    def __init__(self, command: list[str], **how: Any) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
            **how,
        )
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line)
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def until(self, wanted: Callable[[str], bool], timeout: float = DEADLINE) -> str:
        """The last line for which this holds, once there is one: that written last, or a later.

        :raises AssertionError: where none comes in time, or the commands end before.
        """
        found: list[str] = []
        start = max(0, len(self.lines) - 1)

        def seen() -> bool:
            found[:] = [line for line in self.lines[start:] if wanted(line)][-1:]
            return bool(found) or not self._reader.is_alive()

        with self._more:
            self._more.wait_for(seen, timeout)
            if not found:
                raise AssertionError("the line did not come:\n" + "".join(self.lines))
            return found[0]

    def said(self, text: str, timeout: float = DEADLINE) -> None:
        """Wait until this was written.

        :raises AssertionError: where it is not in time, or the commands end before.
        """
        with self._more:
            self._more.wait_for(
                lambda: text in "".join(self.lines) or not self._reader.is_alive(), timeout
            )
            if text not in "".join(self.lines):
                raise AssertionError(f"{text!r} is not in:\n" + "".join(self.lines))

    def ended(self, timeout: float = DEADLINE) -> int:
        """Wait for their end; the exit status."""
        status = self.process.wait(timeout)
        self._reader.join(timeout)
        return status

    def stop(self) -> None:
        """End them and what they have started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                break
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                continue
        self.process.wait()
        assert self.process.stdout is not None
        self._reader.join(DEADLINE)
        self.process.stdout.close()


class Alone:
    """One such host; :meth:`close` ends all that runs there.

    :param folder: is made, and is where commands run.
    :raises SkipTest: where there can be none.
    """

    def __init__(self, folder: Path) -> None:
        for program in ("unshare", "nsenter", "ip", "bash"):
            if shutil.which(program) is None:
                raise SkipTest(f"needs {program}")
        apart, self._into = ["unshare", "--net"], ["--net"]
        if os.geteuid() != 0:
            apart += ["--user", "--map-root-user"]
            self._into += ["--user", "--preserve-credentials"]
        if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
            raise SkipTest("no network namespace can be made here")
        self.folder = folder.absolute()
        programs = self.folder.with_name(f"{folder.name}.bin")
        for made in (self.folder, programs):
            made.mkdir(parents=True)
        for name, code in PROGRAMS.items():
            (programs / name).write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$@\"\n")
            (programs / name).chmod(0o755)
        self._environment = environment(PATH=f"{programs}{os.pathsep}{os.environ.get('PATH', '')}")
        self._shells: list[Shell] = []
        # It holds the namespace for as long as its input is open.
        self._holder = subprocess.Popen(
            [*apart, "sh", "-c", "ip link set lo up && echo up && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"up\n":
            self.close()
            raise SkipTest("a network namespace's loopback cannot be brought up here")

    def start(self, commands: str) -> Shell:
        """Run commands, and go on."""
        shell = Shell(
            ["nsenter", f"--target={self._holder.pid}", *self._into, "bash", "-ec", commands],
            cwd=self.folder,
            env=self._environment,
        )
        self._shells.append(shell)
        return shell

    def run(self, commands: str) -> str:
        """Run commands to their end; what they write.

        :raises AssertionError: where they fail.
        """
        shell = self.start(commands)
        status = shell.ended()
        text = "".join(shell.lines)
        if status:
            raise AssertionError(f"{commands}\nends with {status}:\n{text}")
        return text

    def close(self) -> None:
        """End all that runs there."""
        for shell in reversed(self._shells):
            shell.stop()
        assert self._holder.stdout is not None
        self._holder.communicate()
