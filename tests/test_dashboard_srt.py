"""SRT links on the dashboard, in a real browser."""

from __future__ import annotations

import re
from typing import Any

from tests.admin_peer import HTTP, get, until
from tests.impairment import Impairment
from tests.live import Gateway, live
from tests.test_admin_dashboard import MISSING, Page, browser
from tests.test_loopback_srt_numbers import FE, OPEN, Feeding, NumbersCase, reading

try:
    from selenium.webdriver.common.keys import Keys
except ImportError:
    pass

NUMBERS = ("RTT", "Send rate", "Receive rate", "Loss", "Sent again", "Drops", "Latency")


class Links(NumbersCase):
    """What an operator sees of each side."""

    skip = NumbersCase.skip or MISSING or None

    def details(self, page: Page, index: int = 0) -> Any:
        """The numbers of the links of a session, which are there with it."""
        found: Any = page.until(lambda: page.all("#s-rows details")[index : index + 1])
        return found[0]

    def told(self, page: Page, details: Any) -> dict[str, dict[str, str]]:
        """What stands there by side and number, as it is at one time."""
        found: dict[str, dict[str, str]] = page.driver.execute_script(
            """
            const rows = [...arguments[0].querySelectorAll("tbody tr")];
            return Object.fromEntries(rows.map((row) => [row.querySelector("th").innerText,
              Object.fromEntries([...row.querySelectorAll("td")].map(
                (cell) => [cell.dataset.name, cell.innerText]))]));
            """,
            details,
        )
        return found

    def number(self, text: str) -> float:
        """With which it begins; of bits, how many."""
        found = re.match(r"([\d.]+) (k|M|G|)", text)
        assert found, text
        scale = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}[found[2] if "bit/s" in text else ""]
        return float(found[1]) * scale

    @live(real_srt={"snddropdelay": 30_000}, data=OPEN, http=HTTP)
    def test_numbers(self, gateway: Gateway) -> None:
        """Of both sides of a session, of which the FE's loses packets."""
        be = self.publisher(gateway, latency=250)
        with (
            Impairment((gateway.host, gateway.srt[0]), loss=0.05, delay=0.01) as proxy,
            browser((1280, 1100)) as driver,
        ):
            page = Page(driver, gateway)
            page.until(lambda: page.text("#state") == "ready")
            fe = self.watcher(gateway, FE, via=proxy.address, latency=1000)
            gateway.background(reading, fe)
            feeding = Feeding(gateway, be)
            details = self.details(page)
            self.assertFalse(page.one("#s-rows details table").is_displayed())
            summary = page.one("#s-rows summary")
            self.assertEqual(summary.accessible_name, "SRT links of eye and cam")
            summary.click()

            def measured() -> Any:
                told = self.told(page, details)
                numbers = {name: self.number(text) for name, text in told["Front end"].items()}
                seen = all(
                    numbers[name] for name in NUMBERS if name not in ("Drops", "Receive rate")
                )
                if not seen or numbers["Send rate"] <= 100_000:
                    return None
                return self.number(told["Back end"]["Receive rate"]) > 100_000 and (told, numbers)

            told, numbers = page.until(measured)
            self.assertCountEqual(told["Front end"], NUMBERS)
            self.assertCountEqual(told["Back end"], NUMBERS)
            self.assertGreaterEqual(numbers["RTT"], 15)
            self.assertLess(numbers["Send rate"], 20e6)
            self.assertRegex(told["Front end"]["Loss"], r"\d %\s+sent [\d.]+ %, received 0.0 %")
            until(lambda: numbers["Sent again"] <= proxy.from_target.retransmitted)
            self.assertEqual(numbers["Drops"], 0)
            self.assertIn("too late: 0 packets sent, 0 received", told["Front end"]["Drops"])
            self.assertEqual(numbers["Latency"], 1000)
            self.assertEqual(self.number(told["Back end"]["Latency"]), 250)
            self.assertEqual(self.number(told["Back end"]["Sent again"]), 0)
            self.assertIn("SRT: RTT ", page.text("#s-rows td[data-name='Front end']"))
            again = numbers["Sent again"]
            page.until(lambda: (found := measured()) and found[1]["Sent again"] > again)
            self.assertTrue(details.get_attribute("open"), "news leave it open")
            feeding.end()
            fe.close()
            page.until(lambda: not page.all("#s-rows tr"))

    @live(real_srt={"fan_out": 3}, data=OPEN, http=HTTP)
    def test_drops_by_keyboard(self, gateway: Gateway) -> None:
        """On a phone in the dark: what a slow watcher misses, also when another goes."""
        be = self.publisher(gateway)
        fast = self.watcher(gateway, FE, latency=1000)
        until(lambda: get(gateway, "/api/v1/sessions").json["items"])  # the first of the page
        self.watcher(gateway, "#!::u=sleeper,m=request", fc=64, rcvbuf=64 * 1472)
        gateway.background(reading, fast)
        with browser((400, 860), dark=True) as driver:
            page = Page(driver, gateway)
            details = self.details(page, 1)
            close = page.all("#s-rows button")[1]
            close.send_keys(Keys.TAB)
            summary = driver.switch_to.active_element
            self.assertEqual(summary.accessible_name, "SRT links of sleeper and cam")
            self.assertGreaterEqual(summary.size["height"], 40)
            summary.send_keys(Keys.ENTER)
            Feeding(gateway, be)
            page.until(lambda: self.number(self.told(page, details)["Front end"]["Drops"] or "0 "))
            self.assertTrue(page.all(".links td.held"))
            width = driver.execute_script("return document.documentElement.scrollWidth")
            self.assertLessEqual(width, 400)
            fast.close()
            page.until(lambda: len(page.all("#s-rows details")) == 1)
            self.assertEqual(driver.switch_to.active_element, summary)
            self.assertTrue(details.get_attribute("open"))
            self.assertEqual(
                self.told(page, details)["Back end"]["Latency"].split("\n")[0], "120 ms"
            )

    @live(http=HTTP, data=OPEN)
    def test_none(self, gateway: Gateway) -> None:
        """A session of TCP has nothing to open."""
        gateway.pair(gateway.zmq[0])
        with browser((1280, 1100)) as driver:
            page = Page(driver, gateway)
            page.until(lambda: page.all("#s-rows tr"))
            self.assertEqual(page.all("#s-rows details"), [])
