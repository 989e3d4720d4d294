"""What the process spends its time on, while it goes on with its work.

``speedscope``: a thread looks a hundred times a second at what the reactor's thread does, and
counts the stacks; it costs a percent or two. ``pstats``: Python's own cProfile counts every call
of the reactor's thread, which then runs at about half its speed.
"""

from __future__ import annotations

import cProfile
import marshal
import sys
import threading
import time
from collections import Counter
from types import FrameType
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from relayx.admin.errors import Refusal
from relayx.admin.queries import ProfileFormat

INTERVAL = 0.01
"""Seconds between two looks."""

MOST_STACKS = 20000
MOST_FRAMES = 128

Frame = tuple[str, str, int]
"""Name, file and first line of a function."""


class Profiler:
    """Takes one profile at a time, of the thread that asks for it.

    :param reactor: an IReactorTime.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._running: Deferred[bytes] | None = None

    def take(self, seconds: float, form: ProfileFormat) -> Deferred[bytes]:
        """Take a profile; the Deferred may be cancelled.

        :raises Refusal: 409 where one is being taken, by us or by anybody else.
        """
        if self._running is not None:
            raise Refusal(409, "PROFILE_RUNNING", "another profile is being taken")
        taking: _Sampling | _Counting = (
            _Sampling() if form is ProfileFormat.SPEEDSCOPE else _Counting()
        )
        taking.start()

        def over() -> None:
            done.callback(taking.stop())

        def given_up(_: Deferred[bytes]) -> None:
            call.cancel()
            taking.stop()

        def forget(result: Any) -> Any:
            self._running = None
            return result

        call = self._reactor.callLater(seconds, over)
        done: Deferred[bytes] = Deferred(given_up)
        self._running = done
        done.addBoth(forget)
        return done

    def close(self) -> None:
        """Give up what is being taken."""
        if self._running is not None:
            self._running.cancel()


class _Counting:
    """cProfile of this thread."""

    def __init__(self) -> None:
        self._profile = cProfile.Profile()

    def start(self) -> None:
        try:
            self._profile.enable()
        except ValueError:  # of Python 3.12 and later: something else profiles or traces
            text = "something else profiles this process; try format=speedscope"
            raise Refusal(409, "PROFILE_RUNNING", text) from None

    def stop(self) -> bytes:
        self._profile.disable()
        self._profile.create_stats()
        return marshal.dumps(self._profile.stats)


class _Sampling:
    """A thread that looks at this one."""

    def __init__(self) -> None:
        self._target = threading.get_ident()
        self._over = threading.Event()
        self._stacks: Counter[tuple[Frame, ...]] = Counter()
        self._seconds = 0.0
        self._thread = threading.Thread(target=self._look, name="relayx-profile", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> bytes:
        self._over.set()
        self._thread.join(1.0)
        return speedscope("relayx", "seconds", self._weights())

    def _weights(self) -> list[tuple[tuple[Frame, ...], float]]:
        looks = sum(self._stacks.values())
        each = self._seconds / looks if looks else 0.0
        return [(stack, count * each) for stack, count in self._stacks.items()]

    def _look(self) -> None:
        began = time.monotonic()
        while not self._over.wait(INTERVAL):
            frame = sys._current_frames().get(self._target)
            if frame is None:
                break
            stack = _stack(frame)
            if len(self._stacks) < MOST_STACKS or stack in self._stacks:
                self._stacks[stack] += 1
            del frame  # it keeps alive what that function has
        self._seconds = time.monotonic() - began


def _stack(frame: FrameType | None) -> tuple[Frame, ...]:
    """Outermost first; of a deep one, its innermost frames."""
    found: list[Frame] = []
    while frame is not None and len(found) < MOST_FRAMES:
        code = frame.f_code
        found.append((code.co_qualname, code.co_filename, code.co_firstlineno))
        frame = frame.f_back
    return tuple(reversed(found))


def speedscope(name: str, unit: str, weights: list[tuple[tuple[Frame, ...], float]]) -> bytes:
    """Stacks and what each weighs, in the file format of https://www.speedscope.app.

    :param unit: ``seconds`` or ``bytes``.
    """
    frames: dict[Frame, int] = {}
    samples = [[frames.setdefault(frame, len(frames)) for frame in stack] for stack, _ in weights]
    return msgspec.json.encode({
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": "relayx",
        "name": name,
        "activeProfileIndex": 0,
        "shared": {
            "frames": [
                {"name": function, "file": file, "line": line} for function, file, line in frames
            ]
        },
        "profiles": [
            {
                "type": "sampled",
                "name": name,
                "unit": unit,
                "startValue": 0,
                "endValue": sum(weight for _, weight in weights),
                "samples": samples,
                "weights": [weight for _, weight in weights],
            }
        ],
    })  # fmt: skip
