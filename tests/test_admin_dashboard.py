"""The dashboard in a real browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.trial.unittest import TestCase

from tests.admin_peer import HTTP, TOKEN, http_address
from tests.guide_peer import DEADLINE
from tests.live import Gateway, live

try:
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait
except ImportError:
    webdriver = None  # type: ignore[assignment]

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = next(
    (
        f"{name} is not installed"
        for name, there in (
            ("selenium", webdriver), ("chromium", CHROMIUM), ("chromium-driver", DRIVER)
        )
        if not there
    ),
    "",
)  # fmt: skip


class Page:
    """The dashboard of a gateway, in a browser."""

    def __init__(self, driver: Any, gateway: Gateway) -> None:
        self.driver = driver
        host, port = http_address(gateway)
        self.address = f"http://{host}:{port}/"
        driver.get(self.address)

    def all(self, selector: str) -> list[Any]:
        """Every element."""
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def one(self, selector: str) -> Any:
        """The element."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def until(self, there: Any) -> Any:
        """Wait for something to be so."""
        wait = WebDriverWait(self.driver, DEADLINE, poll_frequency=0.05)
        return wait.until(lambda _: there())

    def text(self, selector: str) -> str:
        """What stands there."""
        return str(self.one(selector).text)


@contextmanager
def browser(size: tuple[int, int], *, dark: bool = False) -> Iterator[Any]:
    """A browser without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
        "--hide-scrollbars", "--no-proxy-server",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        yield driver
    finally:
        driver.quit()


class Dashboard(TestCase):
    """What an operator sees and does."""

    if MISSING:
        skip = MISSING

    @live(http=HTTP, zmq=40, srt=40, data={"be_on_fe_close": "close"})
    def test_session_comes_and_goes(self, gateway: Gateway) -> None:
        """Without a reload; its bytes are counted, and its end is told."""
        with browser((1280, 1100)) as driver:
            page = Page(driver, gateway)
            page.until(lambda: page.text("#state") == "ready")
            self.assertTrue(page.one("#s-none").is_displayed())
            driver.execute_script("window.same = true")
            client, service = gateway.fe("viewer"), gateway.be("camera <b>1</b>")
            service.ping()
            client.ping()
            for port in (*gateway.zmq[2:9], *gateway.srt[1:6]):
                gateway.waiting(port, "camera <b>1</b>", service="cam")
            fe, be = gateway.pair(gateway.zmq[0])
            fe.send(b"x" * 5_000_000)
            be.receive(5_000_000)
            row = page.until(lambda: (page.all("#s-rows tr") or [None])[0])
            page.until(lambda: "5.0 MB" in row.text)
            self.assertFalse(page.one("#s-none").is_displayed())
            self.assertIn("camera <b>1</b>", page.text("#c-rows"))
            self.assertEqual(len(page.all(".port.busy")), 1)
            self.assertEqual(len(page.all(".port.ready")), 12)
            self.assertEqual(page.one(".port.busy").text, "B")
            self.assertIn("busy", page.one(".port.busy").accessible_name)
            page.until(lambda: "MB/s" in page.text("#peak"))
            self.assertGreater(len(page.one("#curve").get_attribute("points").split()), 1)
            self.assertGreater(self.lightness(driver), 200)
            fe.shutdown()
            be.shutdown()
            page.until(lambda: not page.all("#s-rows tr"))
            page.until(lambda: "fe_closed" in page.text("#events"))
            self.assertTrue(driver.execute_script("return window.same"))
            self.assert_quiet(driver)

    @live(http=HTTP, secrets={"admin_token": TOKEN}, data={"admission": "open"})
    def test_closing_by_keyboard(self, gateway: Gateway) -> None:
        """On a phone in the dark: the token, then a session is closed, after asking."""
        with browser((400, 860), dark=True) as driver:
            page = Page(driver, gateway)
            entry = page.until(
                lambda: page.one("#token") if page.all("#entry:not([hidden])") else 0
            )
            entry.send_keys("wrong", Keys.ENTER)
            page.until(lambda: "not the right one" in page.text("#trouble"))
            page.until(lambda: page.one("#token").is_displayed())
            driver.execute_script("trouble('')")
            page.one("#token").send_keys("no header has ☃", Keys.ENTER)
            page.until(lambda: "not the right one" in page.text("#trouble"))
            page.one("#token").send_keys(TOKEN, Keys.ENTER)
            page.until(lambda: page.text("#state") == "ready")
            self.assertNotIn(TOKEN, driver.current_url)
            fe, be = gateway.pair(gateway.zmq[0])
            close = page.until(lambda: (page.all("#s-rows button") or [None])[0])
            self.assertIn("Close the session of", close.accessible_name)
            close.send_keys(Keys.ENTER)
            page.until(lambda: page.one("#closing").is_displayed())
            driver.switch_to.active_element.send_keys(Keys.ESCAPE)
            page.until(lambda: not page.one("#closing").is_displayed())
            fe.send(b"still there")
            be.receive(11)
            close.send_keys(Keys.ENTER)
            page.until(lambda: page.one("#closing").is_displayed())
            driver.switch_to.active_element.send_keys(Keys.TAB, Keys.ENTER)
            page.until(lambda: not page.all("#s-rows tr"))
            page.until(lambda: "admin" in page.text("#events"))
            width = driver.execute_script("return document.documentElement.scrollWidth")
            self.assertLessEqual(width, 400)
            self.assertLess(self.lightness(driver), 50)
            self.assert_quiet(driver)

    @live(http=HTTP)
    def test_one_stream(self, gateway: Gateway) -> None:
        """However often the page begins anew, each event is told once."""
        with browser((1280, 900)) as driver:
            page = Page(driver, gateway)
            driver.execute_script("follow(); follow()")
            page.until(lambda: page.text("#state") == "ready")
            gateway.fe("first"), gateway.fe("second")
            page.until(lambda: "second registered" in page.text("#events"))
            self.assertEqual(page.text("#events").count("first registered"), 1)

    @live(http=HTTP)
    def test_ports_by_keyboard(self, gateway: Gateway) -> None:
        """One stop for Tab a protocol; arrows go from port to port, and say which."""
        with browser((1280, 900)) as driver:
            page = Page(driver, gateway)
            page.until(lambda: len(page.all(".port")) == 5)
            self.assertEqual(len(page.all(".port[tabindex='0']")), 2)
            first = page.one(".grid .port")
            first.send_keys(Keys.ARROW_RIGHT)
            self.assertIn(str(gateway.srt[1]), page.text("#port"))

    def lightness(self, driver: Any) -> float:
        """Of the page's ground: 0 is black, 255 white."""
        colour = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        red, green, blue = map(int, re.findall(r"\d+", colour)[:3])
        return (red + green + blue) / 3

    def assert_quiet(self, driver: Any) -> None:
        """The browser found nothing to complain about, but requests that were to be refused."""
        lines = [entry["message"] for entry in driver.get_log("browser")]
        self.assertEqual(len([line for line in lines if "401" not in line]), 0, lines)
