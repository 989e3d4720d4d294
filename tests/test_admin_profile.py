"""Profiles of the running process."""

from __future__ import annotations

import json
import pstats
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from relayx.admin.heap import start_tracing
from tests.admin_peer import HTTP, Asking, get, until
from tests.guide_peer import DEADLINE
from tests.live import Gateway, live


class Profiles(TestCase):
    """/debug/profile and /debug/heap."""

    def check_speedscope(self, document: Any, unit: str) -> None:
        """What https://www.speedscope.app/file-format-schema.json asks for."""
        self.assertEqual(document["$schema"], "https://www.speedscope.app/file-format-schema.json")
        frames = document["shared"]["frames"]
        for frame in frames:
            self.assertTrue(frame["name"] and frame["file"])
            self.assertIsInstance(frame["line"], int)
        (profile,) = document["profiles"]
        self.assertEqual((profile["type"], profile["unit"]), ("sampled", unit))
        self.assertEqual(len(profile["samples"]), len(profile["weights"]))
        self.assertEqual(profile["startValue"], 0)
        self.assertAlmostEqual(profile["endValue"], sum(profile["weights"]), places=3)
        self.assertTrue(profile["samples"])
        for stack in profile["samples"]:
            self.assertTrue(stack and all(0 <= index < len(frames) for index in stack))

    def begun(self, gateway: Gateway) -> Asking:
        """A profile of a minute, as soon as it is being taken."""
        profiler = gateway.service.admin._site.answers._profiler
        first = Asking(gateway, "/debug/profile?seconds=60")
        until(lambda: get(gateway, "/healthz").status == 200 and profiler._running)
        return first

    @live(http=HTTP)
    def test_sampled(self, gateway: Gateway) -> None:
        """In about the seconds that were asked for, with the reactor in it."""
        answer = get(gateway, "/debug/profile?seconds=1")
        document = json.loads(answer.body)
        self.check_speedscope(document, "seconds")
        names = {frame["name"] for frame in document["shared"]["frames"]}
        self.assertTrue(any(name.endswith("mainLoop") for name in names), names)
        self.assertIn("attachment", answer.headers["Content-Disposition"])

    @live(http=HTTP)
    def test_counted(self, gateway: Gateway) -> None:
        """pstats opens it."""
        answer = get(gateway, "/debug/profile?seconds=1&format=pstats")
        if answer.status == 409:
            self.skipTest(answer.json["error"])
        path = Path(self.mktemp())
        path.write_bytes(answer.body)
        self.assertTrue(pstats.Stats(str(path)).total_calls)  # type: ignore[attr-defined]

    @live(http=HTTP)
    def test_one_at_a_time(self, gateway: Gateway) -> None:
        """A second one is refused while the first is taken, which goes with who asked for it."""
        first = self.begun(gateway)
        refused = get(gateway, "/debug/profile?seconds=1&format=pstats")
        self.assertEqual((refused.status, refused.code), (409, "PROFILE_RUNNING"))
        self.assertEqual(get(gateway, "/healthz").status, 200)
        first.close()
        until(lambda: get(gateway, "/debug/profile?seconds=1").status == 200)

    @live(http=HTTP)
    def test_stopping_ends_it(self, gateway: Gateway) -> None:
        """A profile of a minute does not keep the gateway from stopping."""
        first = self.begun(gateway)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(first.answer)
            gateway.stop().result(DEADLINE)
            told = answer.result(DEADLINE)
        self.assertEqual((told.status, told.code), (503, "STOPPING"))
        first.close()

    @live(http=HTTP)
    def test_heap(self, gateway: Gateway) -> None:
        """Bytes by where they were allocated, where that is traced."""
        self.assertEqual(get(gateway, "/debug/heap").code, "HEAP_OFF")
        start_tracing()
        self.addCleanup(tracemalloc.stop)
        kept = [get(gateway, "/api/v1/status") for _ in range(20)]
        self.check_speedscope(get(gateway, "/debug/heap").json, "bytes")
        text = get(gateway, "/debug/heap?format=text").body.decode()
        self.assertIn("bytes traced", text)
        self.assertTrue(kept)
