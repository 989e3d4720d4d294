"""Programs of ZeroMQ in C and for Node, for tests: what they need, and those of docs/zmq.rst.

What is skipped for want of something says so with :data:`NO_NODE` and the other words here, which
.ci/run knows: it installs that, and does not let such a test be skipped.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SkipTest, TestCase

from tests.relayx_process import environment

PAGE = Path(__file__).resolve().parent.parent / "docs" / "zmq.rst"
DEADLINE = 60.0
"""Seconds for a pair of programs, each of which takes parts of one."""
NPM_DEADLINE = 120.0
PATTERNS = {
    "push_pull": ("push", "pull", ["work 0", "work 1", "work 2"]),
    "req_rep": ("rep", "req", [f"answer to question {number}" for number in range(3)]),
}
"""Two that end, of which the second prints what it gets; PUB and SUB are the third."""
SUFFIXES = {"python": "py", "c": "c", "javascript": "mjs"}
NO_NODE = "needs {} (Debian packages nodejs and npm)"
NO_COMPILER = "needs a C compiler"
NO_HEADERS = "needs the headers of libzmq (Debian package libzmq3-dev)"

_BLOCK = re.compile(
    r"^\.\. code-block:: (\S+)\n   :caption: (\S+)\n\n((?:   .*\n|\n)+)", re.MULTILINE
)


def programs() -> dict[str, str]:
    """The page's programs by their file names."""
    return {name: textwrap.dedent(text) for _, name, text in _BLOCK.findall(PAGE.read_text())}


def node_modules() -> Path:
    """A ``node_modules`` with zeromq in it, installed once in a process.

    :raises SkipTest: where there is none to be had.
    """
    folder, lack = _zeromq_of_npm()
    if lack:
        raise SkipTest(lack)
    return folder / "node_modules"


@functools.cache
def _zeromq_of_npm() -> tuple[Path, str]:
    """A folder in which Node finds zeromq, or why there is none."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            return Path(), NO_NODE.format(program)
    folder = Path(tempfile.mkdtemp(prefix="relayx-npm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--no-update-notifier", "zeromq@6"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=NPM_DEADLINE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return folder, f"npm did not install zeromq within {NPM_DEADLINE:g} s"
    if done.returncode:
        return folder, f"npm cannot install zeromq: {done.stderr.strip()[-200:]}"
    return folder, ""


def compiled(source: Path) -> Path:
    """A program of C with libzmq, built beside its source.

    :raises SkipTest: without a compiler or libzmq's headers.
    :raises AssertionError: where the compiler finds a fault in it.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SkipTest(NO_COMPILER)
    tried = subprocess.run(
        [compiler, "-E", "-"], input=b"#include <zmq.h>\n", capture_output=True, check=False
    )
    if tried.returncode:
        raise SkipTest(NO_HEADERS)
    built = source.with_suffix("")
    done = subprocess.run(
        [compiler, "-Wall", "-Wextra", "-Werror", str(source), "-o", str(built), "-lzmq"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    if done.returncode:
        raise AssertionError(done.stderr)
    return built


class Recipe(TestCase):
    """Writes the page's programs out, and runs two of them that both connect."""

    def setUp(self) -> None:
        if importlib.util.find_spec("zmq") is None:
            raise SkipTest("pyzmq is not installed")
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        for name, text in programs().items():
            (self.folder / name).write_text(text)

    def command(self, name: str) -> list[str]:
        """How a program is run; one of C is compiled before."""
        suffix = name.rpartition(".")[2]
        if suffix == "py":
            return [sys.executable, name]
        if suffix == "mjs":
            modules, target = node_modules(), self.folder / "node_modules"
            if not target.exists():
                target.symlink_to(modules)  # import takes no notice of NODE_PATH
            return ["node", name]
        return [str(compiled(self.folder / name))]

    def start(self, command: list[str], *words: str, **more: str) -> subprocess.Popen[str]:
        """Run one, killed in the end where it has not ended by itself."""
        child = subprocess.Popen(
            [*command, *words],
            cwd=self.folder,
            env=environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.addCleanup(self._end, child)
        return child

    def printed(self, child: subprocess.Popen[str]) -> list[str]:
        """What one prints until it ends with status 0."""
        try:
            told, _ = child.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            child.kill()
            raise AssertionError(f"it does not end; so far: {child.communicate()[0]}") from None
        self.assertEqual(child.returncode, 0, told)
        return told.splitlines()

    @staticmethod
    def _end(child: subprocess.Popen[str]) -> None:
        child.kill()
        child.communicate()

    def pair(
        self, endpoint: str, first: str, second: str, expected: list[str], other: str = ""
    ) -> None:
        """Two that end: the second prints, the first prints nothing.

        :param other: the endpoint of the second, where it has one of its own.
        """
        commands = [self.command(name) for name in (first, second)]
        one, two = self.start(commands[0], endpoint), self.start(commands[1], other or endpoint)
        self.assertEqual(self.printed(two), expected)
        self.assertEqual(self.printed(one), [])

    def patterns(self, at: Mapping[str, str], language: str) -> None:
        """All three in one language.

        :param at: the endpoint of each role, such as ``push``.
        """
        suffix = SUFFIXES[language]
        for one, two, expected in PATTERNS.values():
            self.pair(at[one], f"{one}.{suffix}", f"{two}.{suffix}", expected, at[two])
        pub, sub = self.command(f"pub.{suffix}"), self.command(f"sub.{suffix}")
        publisher = self.start(pub, at["pub"])
        told = self.printed(self.start(sub, at["sub"]))
        numbers = [int(line.removeprefix("news ")) for line in told]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + 3)))
        self.assertIsNone(publisher.poll(), "it goes on")
