"""Makes the pictures of docs/images: ``python -m twisted.trial tests.pictures``, by hand.

They are of a gateway at work for some minutes, with names as an operator may see them. Where they are
to show a version, relayx has to be installed.
"""

from __future__ import annotations

import selectors
import threading
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

import relayx
from tests.admin_peer import HTTP, TOKEN, get, until
from tests.live import Gateway, live
from tests.test_admin_dashboard import MISSING, Page, browser

CHUNK = bytes(1 << 16)
POINTS = 30
"""Of the chart, five seconds each."""

BACK_ENDS = {
    "cam-north-gate": "cameras", "cam-loading-dock": "cameras", "render-01": "render",
    "render-02": "render", "quotes": "market-data",
}  # fmt: skip
FRONT_ENDS = ("control-room", "lobby-wall", "studio-7", "desk-london")
SESSIONS = (
    (0, "cam-north-gate", "control-room", "srt"), (2, "render-01", "studio-7", "zmq"),
    (7, "cam-loading-dock", "lobby-wall", "srt"), (13, "quotes", "desk-london", "zmq"),
    (19, "cam-north-gate", "lobby-wall", "srt"),
)  # fmt: skip
"""When each begins, in points of the chart; its back end, its front end, and its protocol."""

MB = 1_000_000
BANDWIDTHS = (("cam-*", 6 * MB), ("render-*", 11 * MB), ("quotes", MB // 4))


class Traffic(threading.Thread):
    """Bytes from one end of each session to the other, as fast as the gateway lets them go."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._selector = selectors.DefaultSelector()
        self._enough = threading.Event()

    def add(self, source: Any, sink: Any) -> None:
        """One more session."""
        for link, event in ((source, selectors.EVENT_WRITE), (sink, selectors.EVENT_READ)):
            link.socket.setblocking(False)
            self._selector.register(link.socket, event)

    def run(self) -> None:
        """Until it is enough."""
        while not self._enough.is_set():
            for key, event in self._selector.select(0.1):
                peer: Any = key.fileobj
                if event & selectors.EVENT_WRITE:
                    peer.send(CHUNK)
                else:
                    peer.recv(1 << 20)

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
        clients=[{"match": name, "bandwidth": limit} for name, limit in BANDWIDTHS],
        data={"be_on_fe_close": "close"},
    )
    def test_dashboard(self, gateway: Gateway) -> None:
        self.assertNotEqual(relayx.__version__, "0+unknown", "install it first")
        images = Path(relayx.__file__).parent.parent / "docs" / "images"
        images = images if images.is_dir() else Path.cwd().parent
        for name in BACK_ENDS:
            gateway.be11(name)
        clients = {name: gateway.fe11(name) for name in FRONT_ENDS}
        free = {"zmq": iter(gateway.zmq), "srt": iter(gateway.srt)}
        traffic = Traffic()
        traffic.start()
        gateway.before_closing(traffic.end)
        for when, be_name, fe_name, protocol in SESSIONS:
            self.wait_for_points(gateway, when)
            port, service = next(free[protocol]), BACK_ENDS[be_name]
            be = gateway.waiting(port, be_name, service=service)
            fe = gateway.entering(port, fe_name, service=service)
            fe.expect("RLX1PAIRED")
            be.expect("RLX1PAIRED")
            traffic.add(be, fe)
        for be_name, service in BACK_ENDS.items():
            for protocol in ("srt", "zmq", "zmq") if service != "cameras" else ("srt", "srt"):
                gateway.waiting(next(free[protocol]), be_name, service=service)
        clients["studio-7"].acquire(service="render", ttl_seconds=600)
        self.wait_for_points(gateway, POINTS)
        with browser((1280, 1100)) as driver:
            page = self.entered(driver, gateway)
            height = driver.execute_script("return document.documentElement.scrollHeight")
            size = {"width": 1280, "height": height, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            self.assertEqual(len(page.all("#s-rows tr")), len(SESSIONS))
            driver.save_screenshot(str(images / "dashboard-light.png"))
        with browser((400, 860), dark=True) as driver:
            self.entered(driver, gateway)
            driver.save_screenshot(str(images / "dashboard-dark.png"))

    def wait_for_points(self, gateway: Gateway, count: int) -> None:
        """Until the chart is so long."""
        for least in range(1, count + 1):
            path = "/api/v1/history"
            until(lambda least=least: len(get(gateway, path, token=TOKEN).json["points"]) >= least)

    def entered(self, driver: Any, gateway: Gateway) -> Page:
        """The page, with all that runs on it."""
        page = Page(driver, gateway)
        entry = page.until(lambda: page.one("#token") if page.all("#entry:not([hidden])") else 0)
        entry.send_keys(TOKEN + "\n")
        page.until(lambda: page.text("#state") == "ready")
        page.until(lambda: len(page.all("#s-rows tr")) == len(SESSIONS))
        page.until(lambda: "MB/s" in page.text("#s-rows"))
        return page
