"""The recipes of docs/srt.rst and README's live video, run as they stand there."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from tests import video
from tests.alone import Alone, Shell, named_blocks

try:
    from tests import srt_peer
except ImportError:
    MISSING = "cffi is not installed"
else:
    MISSING = srt_peer.missing()

ROOT = Path(__file__).resolve().parent.parent
RECIPES = named_blocks(ROOT / "docs" / "srt.rst")
WATCHED = 125
"""Frames that a watcher of the recipes takes."""
CLIP = 250
"""Frames of the clip."""


class Recipes(TestCase):
    """One gateway, and a method for each part of the page."""

    timeout = 600
    skip = MISSING or video.missing() or None
    needs: ClassVar[tuple[str, ...]] = ("srt-live-transmit",)

    def recipes(self, scenario: Callable[[Alone], None]) -> Any:
        """Run a scenario with the gateway and the clip there, in a thread."""

        def body() -> None:
            for program in self.needs:
                if not shutil.which(program):
                    raise SkipTest(f"needs {program} (Debian package srt-tools)")
            alone = Alone(Path(self.mktemp()))
            try:
                alone.run(RECIPES["clip"])
                self.gateway = alone.start(RECIPES["gateway"])
                self.gateway.said("serves 10 data ports")
                self.status = alone.start("relayx status --watch --json")
                scenario(alone)
            finally:
                alone.close()

        return deferToThread(body)

    def state(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the srt ports are so."""
        self.status.until(lambda line: line[:1] == "{" and wanted(json.loads(line)["ports"]["srt"]))

    def ready(self, port: int) -> None:
        """Wait until a BE waits on a port by SRT."""
        self.state(lambda ports: port in ports["native_ready_ports"])

    def finish(self, shell: Shell) -> None:
        """Wait until commands have ended well."""
        self.assertEqual(shell.ended(), 0, "".join(shell.lines) + "".join(self.gateway.lines))

    def whole(self, alone: Alone, name: str, least: int = CLIP) -> None:
        """A recording is the clip, from its first frame on, with nothing else in it."""
        got = video.frames(alone.folder / name)
        self.assertLessEqual(least, got)
        self.assertEqual(
            video.digest(alone.folder / name), video.digest(alone.folder / "bars.ts", got)
        )

    def test_ffmpeg(self) -> Any:
        """One publishes and two watch; one sends to a recorder."""

        def scenario(alone: Alone) -> None:
            self.assertEqual(video.frames(alone.folder / "bars.ts"), CLIP)
            publisher = alone.start(RECIPES["publish"])
            self.ready(30000)
            watchers = [alone.start(RECIPES[name]) for name in ("watch", "watch-too")]
            for watcher, name in zip(watchers, ("watched.ts", "watched-too.ts"), strict=True):
                self.finish(watcher)
                self.assertEqual(video.frames(alone.folder / name), WATCHED)
            self.ready(30000)  # the publisher is kept
            publisher.stop()
            recorder = alone.start(RECIPES["record"])
            self.ready(30001)
            alone.run(RECIPES["send"])
            self.finish(recorder)
            self.whole(alone, "recorded.ts", least=CLIP - video.RATE)

        return self.recipes(scenario)

    def test_srt_live_transmit(self) -> Any:
        """As publisher and watcher, as recorder and sender."""

        def scenario(alone: Alone) -> None:
            alone.start(RECIPES["slt-publish"])
            self.ready(30002)
            watcher = alone.start(RECIPES["slt-watch"])
            self.state(lambda ports: ports["busy"] == 1)
            alone.run(RECIPES["slt-feed"])
            recorder = alone.start(RECIPES["slt-record"])
            self.ready(30003)
            alone.run(RECIPES["slt-send"])
            self.finish(recorder)
            self.whole(alone, "stored.ts", least=CLIP - video.RATE)
            self.finish(watcher)
            self.whole(alone, "taken.ts", least=CLIP - 1)

        return self.recipes(scenario)

    def test_dialled(self) -> Any:
        """A camera that listens, and a source and a recorder that the gateway brings together."""

        def scenario(alone: Alone) -> None:
            alone.start(RECIPES["camera"])
            self.ready(30007)
            alone.run(RECIPES["camera-watch"])
            self.assertEqual(video.frames(alone.folder / "from-camera.ts"), WATCHED)
            recorder = alone.start(RECIPES["meet-record"])
            alone.start(RECIPES["meet"])
            self.finish(recorder)
            self.assertEqual(video.frames(alone.folder / "met.ts"), WATCHED)

        return self.recipes(scenario)

    def test_bridge(self) -> Any:
        """What is published by SRT is watched by TCP."""

        def scenario(alone: Alone) -> None:
            alone.start(RECIPES["bridge-publish"])
            self.state(lambda ports: ports["ready"] == 1)
            alone.start(RECIPES["bridge"]).said("listening on 127.0.0.1:9001")
            alone.run(RECIPES["bridge-watch"])
            self.assertEqual(video.frames(alone.folder / "bridged.ts"), WATCHED)

        return self.recipes(scenario)


class Tour(TestCase):
    """README's live video, from the state in which its tour ends."""

    timeout = 600
    skip = MISSING or video.missing() or None

    def test_video(self) -> Any:
        """A viewer gets the picture of a camera, by the configuration that the tour writes."""
        return deferToThread(self.scenario)

    def scenario(self) -> None:
        init, gateway, back, front = tour()
        steps = named_blocks(ROOT / "README.rst")
        alone = Alone(Path(self.mktemp()))
        try:
            alone.run(init)
            alone.start(gateway).said("SRT by libsrt")
            alone.start(back).said("registered at")
            alone.start(front).said("listening on")
            status = alone.start("relayx status --watch --json")
            alone.start(steps["video-publish"])
            status.until(lambda line: '"native_ready_ports": [30000]' in line)
            told = alone.run(steps["video-watch"])
            self.assertRegex(told, rf"(?m)^{WATCHED}\b")
            self.assertEqual(video.frames(alone.folder / "seen.ts"), WATCHED)
            self.assertTrue((alone.folder / "seen.png").read_bytes().startswith(b"\x89PNG"))
        finally:
            alone.close()


def tour() -> list[str]:
    """What README's tour has one do: init and check, the gateway, the service, the client."""
    text = (ROOT / "README.rst").read_text()
    told = text.split("Five minutes: a web server behind NAT", 1)[1].split("Live video", 1)[0]
    lines = re.findall(r"^       (\S.*)$", told, re.MULTILINE)
    start = next(n for n, line in enumerate(lines) if line.startswith("twistd"))
    offer = next(n for n, line in enumerate(lines) if line.startswith("relayx be"))
    front = next(n for n, line in enumerate(lines) if line.startswith("relayx fe"))
    return ["\n".join(lines[:start]), lines[start], lines[offer], lines[front]]


class Pages(SynchronousTestCase):
    """What the pages have."""

    def test_few(self) -> None:
        """README's live video is ten commands at most, those that install included."""
        part = (ROOT / "README.rst").read_text().split("Live video through the gateway", 1)[1]
        part = part.split("ZeroMQ without open ports", 1)[0]
        commands = re.findall(r"^ {3,4}(?=[a-z.])\S.*$", part, re.MULTILINE)
        self.assertLessEqual(len(commands), 10)
        self.assertGreaterEqual(len(commands), 7)

    def test_all_are_run(self) -> None:
        """Every recipe of the page is one that the tests run."""
        text = Path(__file__).read_text()
        self.assertGreater(len(RECIPES), 15)
        for name in RECIPES:
            self.assertIn(f'"{name}"', text)
