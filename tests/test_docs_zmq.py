"""The programs in docs/zmq.rst, as they stand there, through a gateway."""

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
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from relayx.cli.__main__ import cli
from tests.live import SECRET, Gateway, live
from tests.relayx_process import environment
from tests.zmtp_relay import Recorder

PAGE = Path(__file__).resolve().parent.parent / "docs" / "zmq.rst"
OPEN = {"admission": "open"}
DEADLINE = 60.0
"""Seconds for a pair of programs, each of which takes parts of one."""
NPM_DEADLINE = 120.0
PATTERNS = {
    "push_pull": ("push", "pull", ["work 0", "work 1", "work 2"]),
    "req_rep": ("rep", "req", [f"answer to question {number}" for number in range(3)]),
}
SUFFIXES = {"python": "py", "c": "c", "javascript": "mjs"}

_BLOCK = re.compile(
    r"^\.\. code-block:: (\S+)\n   :caption: (\S+)\n\n((?:   .*\n|\n)+)", re.MULTILINE
)


def programs() -> dict[str, str]:
    """The page's programs by their file names."""
    return {name: textwrap.dedent(text) for _, name, text in _BLOCK.findall(PAGE.read_text())}


@functools.cache
def _zeromq_of_npm() -> tuple[str, str]:
    """A folder in which Node finds zeromq, or why there is none."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            return "", f"needs {program}"
    folder = tempfile.mkdtemp(prefix="relayx-npm-")
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
        return "", f"npm did not install zeromq within {NPM_DEADLINE:g} s"
    if done.returncode:
        return "", f"npm cannot install zeromq: {done.stderr.strip()[-200:]}"
    return folder, ""


class Recipe(TestCase):
    """Writes programs out, and runs two of them that both connect."""

    def setUp(self) -> None:
        if importlib.util.find_spec("zmq") is None:
            raise SkipTest("pyzmq is not installed")
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        for name, text in programs().items():
            (self.folder / name).write_text(text)

    def command(self, name: str) -> list[str]:
        """How a program is run; one of C is compiled before."""
        stem, _, suffix = name.partition(".")
        if suffix == "py":
            return [sys.executable, name]
        if suffix == "mjs":
            modules, lack = _zeromq_of_npm()
            if lack:
                raise SkipTest(lack)
            target = self.folder / "node_modules"
            if not target.exists():
                target.symlink_to(Path(modules, "node_modules"))
            return ["node", name]
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise SkipTest("needs a C compiler")
        tried = subprocess.run(
            [compiler, "-E", "-"], input=b"#include <zmq.h>\n", capture_output=True, check=False
        )
        if tried.returncode:
            raise SkipTest("needs the headers of libzmq (libzmq3-dev)")
        done = subprocess.run(
            [compiler, "-Wall", "-Wextra", "-Werror", name, "-o", stem, "-lzmq"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return [f"./{stem}"]

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

    def pair(self, endpoint: str, first: str, second: str, expected: list[str]) -> None:
        """Two that end: the second prints, the first prints nothing."""
        commands = [self.command(name) for name in (first, second)]
        one, two = (self.start(command, endpoint) for command in commands)
        self.assertEqual(self.printed(two), expected)
        self.assertEqual(self.printed(one), [])

    def patterns(self, gateway: Gateway, language: str) -> None:
        """All three, each on a port of its own."""
        suffix = SUFFIXES[language]
        ports = iter(gateway.zmq)
        for first, second, expected in PATTERNS.values():
            endpoint = f"tcp://{gateway.host}:{next(ports)}"
            self.pair(endpoint, f"{first}.{suffix}", f"{second}.{suffix}", expected)
        endpoint = f"tcp://{gateway.host}:{next(ports)}"
        pub, sub = self.command(f"pub.{suffix}"), self.command(f"sub.{suffix}")
        publisher = self.start(pub, endpoint)
        told = self.printed(self.start(sub, endpoint))
        numbers = [int(line.removeprefix("news ")) for line in told]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + 3)))
        self.assertIsNone(publisher.poll(), "it goes on")


class Languages(Recipe):
    """Each pattern in each language."""

    @live(data=OPEN)
    def test_python(self, gateway: Gateway) -> None:
        self.patterns(gateway, "python")

    @live(data=OPEN)
    def test_c(self, gateway: Gateway) -> None:
        self.patterns(gateway, "c")

    @live(data=OPEN)
    def test_node(self, gateway: Gateway) -> None:
        self.patterns(gateway, "javascript")

    @live(data=OPEN)
    def test_mixed(self, gateway: Gateway) -> None:
        """Any language goes with any other."""
        first, second, expected = PATTERNS["req_rep"]
        self.pair(f"tcp://{gateway.host}:{gateway.zmq[0]}", f"{first}.py", f"{second}.c", expected)


class Sealed(Recipe):
    """With credentials, and with keys."""

    @live(data={"admission": "peer"})
    def test_peer(self, gateway: Gateway) -> None:
        """Commands of the page register the machine, and wait on no port themselves."""
        first, second, expected = PATTERNS["push_pull"]
        page = " ".join(PAGE.read_text().split())
        for words in ("be --zmq 0", "status --watch"):
            self.assertIn(f"``relayx {words}``", page)
            self.start(
                [sys.executable, "-c", "from relayx.cli.__main__ import main; main()"],
                *words.split(), RELAYX_GATEWAY=gateway.host, RELAYX_SECRET=SECRET,
            )  # fmt: skip
        endpoint = f"tcp://{gateway.host}:{gateway.zmq[0]}"
        self.pair(endpoint, f"{first}.py", f"{second}.py", expected)

    @live(data={"admission": "ticket"})
    def test_ticket(self, gateway: Gateway) -> None:
        """The password that the gateway reads is a lease's ticket."""
        gateway.be("worker")
        rep = self.start(self.command("plain_rep.py"), f"tcp://{gateway.host}:{gateway.zmq[0]}")
        asked = self.start(self.command("ticket_req.py"), gateway.host, RELAYX_SECRET=SECRET)
        self.assertEqual(self.printed(asked), ["answer to question"])
        self.assertEqual(self.printed(rep), [])

    @live(data=OPEN)
    def test_curve(self, gateway: Gateway) -> None:
        """The answer comes through the gateway."""
        self._make_keys()
        self.pair(
            f"tcp://{gateway.host}:{gateway.zmq[0]}", "curve_rep.py", "curve_req.py",
            ["answer to sealed question"],
        )  # fmt: skip

    def test_curve_cannot_be_read(self) -> None:
        """What a relay between the two sees has neither question nor answer in it."""
        self._make_keys()
        with Recorder() as relay:
            endpoint = relay.address
            self.pair(endpoint, "curve_rep.py", "curve_req.py", ["answer to sealed question"])
            relay.wait()
        for said in relay.said:
            self.assertTrue(said.startswith(b"\xff"))
            self.assertIn(b"CURVE", said)
            self.assertNotIn(b"question", said)
            self.assertNotIn(b"answer", said)

    def _make_keys(self) -> None:
        """By the page's commands."""
        for line in re.findall(r"^    relayx (keys .* --kid re[pq])$", PAGE.read_text(), re.M):
            words = line.replace("--dir keys", f"--dir {self.folder / 'keys'}").split()
            with self.assertRaises(SystemExit) as ended:
                cli(words)
            self.assertIn(ended.exception.code, (0, None))
        self.assertEqual(len(list((self.folder / "keys").glob("*.curve-pub"))), 2)


class Page(SynchronousTestCase):
    """What the page has."""

    def test_complete(self) -> None:
        """Six programs in each of three languages, and those with credentials and keys."""
        names = {
            f"{role}.{suffix}"
            for role in ("push", "pull", "req", "rep", "pub", "sub")
            for suffix in SUFFIXES.values()
        }
        more = {"ticket_req.py", "plain_rep.py", "curve_rep.py", "curve_req.py"}
        self.assertEqual(set(programs()), names | more)

    def test_example(self) -> None:
        """The example of a high-water mark is what its formula gives."""
        memory, peers, each, result = re.search(
            r"(\d+) / \((\d+) x (\d+)\) = (\d+)", PAGE.read_text()
        ).groups()
        self.assertEqual(int(memory), 2 << 30)
        self.assertEqual(int(memory) // (int(peers) * int(each)), int(result))
        self.assertEqual((int(peers), int(each)), (16 + 16, 100_000 + 64))
