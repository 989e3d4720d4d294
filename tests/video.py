"""A short real video, and ffmpeg as SRT caller that publishes or reads it, for tests.

What there is to know of ffmpeg's ``srt`` protocol, as found with 5.1 (ffmpeg-protocols(1)):

* ``latency``, ``rcvlatency`` and ``peerlatency`` are *microseconds*, where libsrt and
  srt-live-transmit have milliseconds; ``connect_timeout`` is milliseconds, ``timeout`` µs.
* ``streamid`` in the URL is not percent-decoded (``%23`` arrives as it is), ``#`` may stand there,
  ``+`` becomes a space and ``&`` ends it. The option ``-srt_streamid`` before the URL arrives byte
  by byte; ``-streamid`` is another option, of the MPEG-TS muxer. More than 512 bytes are an error
  before anything is sent.
* ``-f mpegts`` hands on 1316 bytes at a time and SRT keeps them as messages, but the last may be
  shorter; ``pkt_size`` is only for other sizes.
* A refusal is "Input/output error" and status 1; the reason's number is in no line.
* At the end of its input a publisher closes at once, and what the other side has not played is
  lost there (live mode): through srt-live-transmit the last 6 frames of 125, with ``linger`` 5.
  So :func:`make` makes four seconds more than are compared, as a publisher that stood still for
  three sends those at once, and a reader stops at so many frames.
* A reader that comes late misses the beginning and, with ``-c copy``, begins with a key frame.
* When the other side closes, both say "Input/output error"; a reader ends with status 0 and its
  file is whole, a publisher with status 1.
* A reader looks at up to five seconds of a slow stream before it writes its first frame.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

DEADLINE = 60.0
"""Seconds that ffmpeg may take."""
RATE = 25
"""Frames a second."""
_QUIET = ("-hide_banner", "-loglevel", "error", "-nostdin", "-y")


def missing() -> str:
    """Why a test that needs ffmpeg with SRT is skipped, or ""."""
    if not shutil.which("ffmpeg") or not shutil.which("ffprobe"):
        return "ffmpeg is not installed"
    if "srt" not in _said("ffmpeg", "-hide_banner", "-protocols").split():
        return "ffmpeg has no SRT"
    return ""


def _said(*command: str) -> str:
    """What a command writes.

    :raises AssertionError: where it fails.
    """
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE,
        check=False,
        text=True,
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def encoder() -> Sequence[str]:
    """Options for the encoder that this ffmpeg has, so that its output is the same each time.

    Seconds of it fit into what the gateway keeps for an FE that is yet to come.
    """
    is_there = " libx264 " in _said("ffmpeg", "-hide_banner", "-encoders")
    x264, mpeg2 = ("libx264", "-preset", "ultrafast", "-crf", "45"), ("mpeg2video", "-b:v", "100k")
    return ("-c:v", *(x264 if is_there else mpeg2), "-bf", "0", "-threads", "1")


def make(path: Path, seconds: float = 9.0) -> Path:
    """Write an MPEG-TS of a test picture, 320x240, with a key frame each second."""
    _said(
        *("ffmpeg", *_QUIET, "-f", "lavfi", "-i", f"testsrc=size=320x240:rate={RATE}"),
        *("-t", str(seconds), *encoder(), "-g", str(RATE)),
        *("-flags", "+bitexact", "-fflags", "+bitexact", "-f", "mpegts", str(path)),
    )
    return path


def frames(path: Path) -> int:
    """How many video frames can be decoded."""
    told = ("-v", "error", "-count_frames", "-select_streams", "v:0")
    shown = ("-show_entries", "stream=nb_read_frames", "-of", "csv=p=0")
    return int(_said("ffprobe", *told, *shown, str(path)).split()[0].strip(","))


def digest(path: Path, most: int = 0) -> str:
    """MD5 of the video's elementary stream, whatever container and time stamps are about it.

    :param most: only of so many frames, from the first.
    """
    told = ("-map", "0:v:0", *_at_most(most), "-c", "copy", "-f", "md5", "-")
    return _said("ffmpeg", *_QUIET, "-i", str(path), *told).strip()


def _at_most(number: int) -> tuple[str, ...]:
    return ("-frames:v", str(number)) if number else ()


def _srt(address: tuple[str, int], streamid: str, latency: int) -> tuple[list[str], str]:
    told = ["-srt_streamid", streamid] if streamid else []
    url = "srt://{}:{}?mode=caller&latency={}&connect_timeout=60000"
    return told, url.format(*address, latency * 1000)


class Ffmpeg:
    """One that runs; a context manager that kills it in the end."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            ["ffmpeg", *_QUIET, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""

    def ended(self, timeout: float = DEADLINE) -> int:
        """Wait for its end, within `timeout` seconds; its exit status. ``said`` has its errors."""
        _, self.said = self.process.communicate(timeout=timeout)
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def publishing(
    path: Path, address: tuple[str, int], streamid: str = "", latency: int = 120
) -> Ffmpeg:
    """Call `address` and send the file at its own pace.

    :param latency: in ms.
    """
    told, url = _srt(address, streamid, latency)
    return Ffmpeg("-re", "-i", str(path), "-map", "0", "-c", "copy", *told, "-f", "mpegts", url)


def reading(
    path: Path, address: tuple[str, int], streamid: str = "", latency: int = 120, most: int = 0
) -> Ffmpeg:
    """Call `address` and write what comes into the file.

    :param most: end after so many frames of video.
    """
    told, url = _srt(address, streamid, latency)
    kept = ("-map", "0:v:0", *_at_most(most), "-c", "copy", "-f", "mpegts", str(path))
    return Ffmpeg("-f", "mpegts", *told, "-i", url, *kept)
