"""Makes the pictures of docs/images: ``python -m twisted.trial tests.pictures``, by hand.

They are of a gateway at work for some minutes, with names as an operator may see them. relayx has
to be installed, for they show its version.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

import relayx
from tests.admin_peer import HTTP, TOKEN, get, until
from tests.live import Gateway, live
from tests.test_admin_dashboard import MISSING, Page, browser

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
POINTS = 30
"""Of the chart, five seconds each."""

BACK_ENDS = {
    "cam-loading-dock": "cameras", "cam-north-gate": "cameras", "quotes": "market-data",
    "render-01": "render",
}  # fmt: skip
FRONT_ENDS = ("control-room", "desk-london", "studio-7")
MB = 1_000_000
SESSIONS = (
    (0, "cam-north-gate", "control-room", "srt", 2.1 * MB),
    (2, "render-01", "studio-7", "zmq", 5.6 * MB),
    (9, "cam-loading-dock", "control-room", "srt", 1.4 * MB),
    (15, "quotes", "desk-london", "zmq", 0.08 * MB),
)
"""When each begins, in points of the chart; its back end, its front end, its protocol, and bytes a
second."""

TICK = 0.05
MOST_HEIGHT = 1500


class Traffic(threading.Thread):
    """Bytes from one end of each session to the other, more and less of them as time goes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._sessions: list[tuple[Any, Any, float]] = []
        self._enough = threading.Event()

    def add(self, source: Any, sink: Any, rate: float) -> None:
        """One more session, with so many bytes a second on average."""
        for link in (source, sink):
            link.socket.setblocking(False)
        self._sessions.append((source.socket, sink.socket, rate))

    def run(self) -> None:
        """Until it is enough."""
        while not self._enough.wait(TICK):
            now = time.monotonic()
            for number, (source, sink, rate) in enumerate(self._sessions):
                wave = 1 + 0.25 * math.sin(now / (5 + number)) + 0.15 * math.sin(now / 2.3)
                with contextlib.suppress(BlockingIOError):
                    source.send(bytes(int(rate * TICK * wave)))
                with contextlib.suppress(BlockingIOError):
                    while sink.recv(MB):
                        continue

    def end(self) -> None:
        """Move nothing more."""
        self._enough.set()
        self.join()


class Pictures(TestCase):
    """A wide one by day, and a phone's by night."""

    if MISSING:
        skip = MISSING

    @live(
        http=HTTP,
        secrets={"admin_token": TOKEN},
        zmq=60,
        srt=40,
        data={"be_on_fe_close": "close"},
    )
    def test_dashboard(self, gateway: Gateway) -> None:
        self.assertNotEqual(relayx.__version__, "0+unknown", "install it first")
        for name in BACK_ENDS:
            gateway.be11(name)
        clients = {name: gateway.fe11(name) for name in FRONT_ENDS}
        free = {"zmq": iter(gateway.zmq), "srt": iter(gateway.srt)}
        traffic = Traffic()
        traffic.start()
        gateway.before_closing(traffic.end)
        for when, be_name, fe_name, protocol, rate in SESSIONS:
            self.wait_for_points(gateway, when)
            port, service = next(free[protocol]), BACK_ENDS[be_name]
            be = gateway.waiting(port, be_name, service=service)
            fe = gateway.entering(port, fe_name, service=service)
            fe.expect("RLX1PAIRED")
            be.expect("RLX1PAIRED")
            traffic.add(be, fe, rate)
        for be_name, service in BACK_ENDS.items():
            for protocol in ("srt", "zmq", "zmq") if service != "cameras" else ("srt", "srt"):
                gateway.waiting(next(free[protocol]), be_name, service=service)
        clients["studio-7"].acquire(service="render", ttl_seconds=600)
        self.wait_for_points(gateway, POINTS)
        with browser((1280, 1100)) as driver:
            page = self.entered(driver, gateway)
            height = driver.execute_script("return document.documentElement.scrollHeight")
            size = {
                "width": 1280,
                "height": min(height, MOST_HEIGHT),
                "deviceScaleFactor": 1,
                "mobile": False,
            }
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            self.assertEqual(len(page.all("#s-rows tr")), len(SESSIONS))
            driver.save_screenshot(str(IMAGES / "dashboard-light.png"))
        with browser((400, 860), dark=True) as driver:
            self.entered(driver, gateway)
            driver.save_screenshot(str(IMAGES / "dashboard-dark.png"))

    def wait_for_points(self, gateway: Gateway, count: int) -> None:
        """Until the chart is so long."""

        def points() -> int:
            return len(get(gateway, "/api/v1/history", token=TOKEN).json["points"])

        while (now := points()) < count:
            until(lambda now=now: points() > now)

    def entered(self, driver: Any, gateway: Gateway) -> Page:
        """The page, with all that runs on it."""
        page = Page(driver, gateway)
        entry = page.until(lambda: page.one("#token") if page.all("#entry:not([hidden])") else 0)
        entry.send_keys(TOKEN + "\n")
        page.until(lambda: page.text("#state") == "ready")
        page.until(lambda: len(page.all("#s-rows tr")) == len(SESSIONS))
        page.until(lambda: "MB/s" in page.text("#s-rows"))
        return page
