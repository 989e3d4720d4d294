"""Video through the gateway by unmodified tools: ffmpeg and srt-live-transmit in both roles."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import video
from tests.live import Gateway, live
from tests.srt_live import MISSING, OPEN, SrtCase, logged, numbered

COMPARED = 3 * video.RATE
"""Frames: of a video that is seconds longer, see video."""


@contextmanager
def transmit(source: str, target: str) -> Iterator[subprocess.Popen[bytes]]:
    """srt-live-transmit; killed in the end."""
    process = subprocess.Popen(
        ["srt-live-transmit", "-q", "-a:no", source, target],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
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
        self.made, self.read = video.make(folder / "made.ts", 8.0), folder / "read.ts"

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
        with video.reading(
            self.read, at, "#!::u=recorder,x-role=BE,x-on-fe-close=close", most=COMPARED
        ) as reader:
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
    """srt-live-transmit, between the gateway and UDP."""

    skip = (
        MISSING
        or (not shutil.which("srt-live-transmit") and "srt-live-transmit is not installed")
        or None
    )

    def through(self, gateway: Gateway, sender: str, receiver: str, first: str) -> None:
        """Messages from one UDP socket to another, by two of them and the gateway.

        :param sender: the stream id of the one that sends; `receiver` likewise.
        :param first: the one of the two that is a BE.
        """
        watcher, port = gateway.fe11(), gateway.srt[0]

        def url(streamid: str) -> str:
            told = f"mode=caller&latency=60&conntimeo=60000&streamid={streamid}"
            return f"srt://{gateway.host}:{port}?{told}"

        with udp() as outside, udp() as inlet, udp() as end:
            entry = "udp://{}:{}".format(*inlet.getsockname())
            inlet.close()
            runs = {
                sender: (entry, url(sender)),
                receiver: (url(receiver), "udp://{}:{}".format(*end.getsockname())),
            }
            second = receiver if first == sender else sender
            with transmit(*runs[first]):
                self.ready(watcher, port)
                with transmit(*runs[second]):
                    watcher.state(lambda state: state["srt_busy"] == 1)
                    end.settimeout(60)
                    for message in numbered(0, 8, 600):
                        outside.sendto(message, inlet_of(entry))
                        self.assertEqual(end.recv(2000), message)

    @live(real_srt={}, data=OPEN)
    def test_be_to_fe(self, gateway: Gateway) -> None:
        be = "#!::u=cam,m=publish"
        self.through(gateway, be, "#!::u=eye,m=request", be)

    @live(real_srt={}, data=OPEN)
    def test_fe_to_be(self, gateway: Gateway) -> None:
        be = "#!::u=store,x-role=BE"
        self.through(gateway, "#!::u=cam,x-role=FE", be, be)


def udp() -> socket.socket:
    """A UDP socket with an address."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    return made


def inlet_of(url: str) -> tuple[str, int]:
    """Where a udp URL is."""
    host, _, port = url.removeprefix("udp://").rpartition(":")
    return host, int(port)
