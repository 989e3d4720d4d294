"""The tests' video goes through srt-live-transmit unchanged, from ffmpeg to ffmpeg."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, TestCase

from tests import video

try:
    from tests import srt_peer
    from tests.srt_peer import SrtPeer
except ImportError:
    MISSING = "cffi is not installed"
else:
    MISSING = srt_peer.missing()

COMPARED = 5 * video.RATE


class Video(TestCase):
    """With ffmpeg."""

    def setUp(self) -> None:
        """Make one of nine seconds."""
        if lack := video.missing() or MISSING:
            raise SkipTest(lack)
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        self.made, self.read = video.make(folder / "made.ts"), folder / "read.ts"

    def test_digest(self) -> None:
        """It is of the picture: the same for the same frames, another for others."""
        self.assertEqual(video.frames(self.made), 9 * video.RATE)
        again = video.make(self.read)
        self.assertEqual(video.digest(again), video.digest(self.made))
        self.assertNotEqual(video.digest(self.made, COMPARED), video.digest(self.made))

    def test_through(self) -> None:
        """Five seconds of it come out as they went in."""
        if not shutil.which("srt-live-transmit"):
            raise SkipTest("srt-live-transmit is not installed (Debian package srt-tools)")
        ends = []
        for _ in range(2):
            # not libsrt's, which keeps a port for a second after its last socket was closed
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind(("127.0.0.1", 0))
                ends.append(probe.getsockname())
        urls = ["srt://{}:{}?mode=listener".format(*end) for end in ends]
        relay = subprocess.Popen(
            ["srt-live-transmit", "-q", "-a:no", *urls],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(relay.wait)
        self.addCleanup(relay.kill)
        with (
            video.reading(self.read, ends[1], most=COMPARED) as reader,
            video.publishing(self.made, ends[0]) as publisher,
        ):
            self.assertEqual(reader.ended(), 0, reader.said)
            publisher.ended()
        self.assertEqual(video.frames(self.read), COMPARED)
        self.assertEqual(video.digest(self.read), video.digest(self.made, COMPARED))

    def test_stream_id(self) -> None:
        """It arrives as it was told, and a refusal is an error."""
        asked: list[bytes] = []

        def answer(streamid: bytes) -> int:
            asked.append(streamid)
            return 1404

        listener = SrtPeer.listen(answer=answer)
        self.addCleanup(listener.close)
        told = "#!::m=publish,x-role=BE,u=a+b%20&c"
        with video.publishing(self.made, listener.address, told) as publisher:
            self.assertEqual(publisher.ended(), 1)
        self.assertEqual(set(asked), {told.encode()})
        self.assertNotIn("1404", publisher.said)
