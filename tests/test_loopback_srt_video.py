"""Video through the gateway by unmodified tools: ffmpeg and srt-live-transmit in both roles."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import video
from tests.live import Gateway, live
from tests.srt_live import MISSING, OPEN, SrtCase, logged, numbered

COMPARED = 3 * video.RATE
"""Frames: of a video that is a second longer, see video."""


@contextmanager
def transmit(source: str, target: str) -> Iterator[subprocess.Popen[bytes]]:
    """srt-live-transmit; killed in the end."""
    process = subprocess.Popen(
        ["srt-live-transmit", "-q", "-a:no", "-chunk:1316", source, target],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Ffmpeg(SrtCase):
    """A real video, as it was."""

    skip = MISSING or video.missing() or None

    def setUp(self) -> None:
        """Make it."""
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        self.made, self.read = video.make(folder / "made.ts", 4.0), folder / "read.ts"

    def check(self) -> None:
        """The same frames, with the same bytes."""
        self.assertEqual(video.frames(self.read), COMPARED)
        self.assertEqual(video.digest(self.read), video.digest(self.made, COMPARED))

    @live(real_srt={}, data=OPEN)
    def test_be_to_fe(self, gateway: Gateway) -> None:
        """A camera that publishes; what comes before the FE does is kept for it."""
        watcher, port = gateway.fe11(), gateway.srt[0]
        at = (gateway.host, port)
        with video.publishing(self.made, at, "#!::u=cam,m=publish") as publisher:
            self.ready(watcher, port)
            with video.reading(self.read, at, "#!::u=eye,m=request", most=COMPARED) as reader:
                self.assertEqual(reader.ended(), 0, reader.said)
            publisher.ended()
        self.check()

    @live(real_srt={}, data=OPEN)
    def test_fe_to_be(self, gateway: Gateway) -> None:
        """A recorder that waits on a port, and somebody who sends it a video."""
        watcher, port = gateway.fe11(), gateway.srt[0]
        at = (gateway.host, port)
        with video.reading(self.read, at, "#!::u=recorder,x-role=BE", most=COMPARED) as reader:
            self.ready(watcher, port)
            with video.publishing(self.made, at, "#!::u=cam,x-role=FE,m=publish") as publisher:
                self.assertEqual(reader.ended(), 0, reader.said)
                publisher.ended()
        self.check()

    @live(real_srt={}, data=OPEN, secrets={"srt_passphrase": "a passphrase"})
    def test_refused(self, gateway: Gateway) -> None:
        """ffmpeg tells nothing but that it was; the log tells why."""
        at = (gateway.host, gateway.srt[0])
        with logged() as lines:
            with video.reading(self.read, at, "#!::u=eye,m=request") as reader:
                self.assertEqual(reader.ended(), 1)
            lines.wait_for("refuses 127.0.0.1 with 1404: PORT_EMPTY")
            with video.publishing(self.made, at, "#!::u=cam,m=publish") as publisher:
                self.assertEqual(publisher.ended(), 1)
            lines.wait_for("NOT_ADMITTED: its handshake failed")


class LiveTransmit(SrtCase):
    """srt-live-transmit."""

    skip = (
        MISSING
        or (not shutil.which("srt-live-transmit") and "srt-live-transmit is not installed")
        or None
    )

    def url(self, gateway: Gateway, streamid: str) -> str:
        """Of a caller."""
        return f"srt://{gateway.host}:{gateway.srt[0]}?mode=caller&latency=60&streamid={streamid}"

    def send(self, process: subprocess.Popen[bytes], message: bytes) -> None:
        """One chunk."""
        assert process.stdin is not None
        process.stdin.write(message)
        process.stdin.flush()

    @live(real_srt={}, data=OPEN)
    def test_both_roles(self, gateway: Gateway) -> None:
        """One publishes what it reads, the other writes what it receives."""
        watcher, port = gateway.fe11(), gateway.srt[0]
        be = self.url(gateway, "#!::u=cam,m=publish")
        fe = self.url(gateway, "#!::u=eye,m=request")
        with transmit("file://con", be) as source:
            self.ready(watcher, port)
            with transmit(fe, "file://con") as target:
                watcher.state(lambda state: state["srt_busy"] == 1)
                assert target.stdout is not None
                for message in numbered(0, 20, 600):
                    message = message.ljust(1316, b".")
                    self.send(source, message)
                    self.assertEqual(target.stdout.read(1316), message)

    @live(real_srt={}, data=OPEN)
    def test_fe_to_be(self, gateway: Gateway) -> None:
        watcher, port = gateway.fe11(), gateway.srt[0]
        be = self.url(gateway, "#!::u=store,x-role=BE")
        fe = self.url(gateway, "#!::u=cam,x-role=FE")
        with transmit(be, "file://con") as target:
            self.ready(watcher, port)
            with transmit("file://con", fe) as source:
                watcher.state(lambda state: state["srt_busy"] == 1)
                assert target.stdout is not None
                for message in numbered(0, 20, 600):
                    message = message.ljust(1316, b".")
                    self.send(source, message)
                    self.assertEqual(target.stdout.read(1316), message)
