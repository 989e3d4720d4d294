"""A thousand registered clients while 200 ports change state (contract section 4)."""

from __future__ import annotations

import resource
import select
import time

from twisted.logger import Logger
from twisted.trial.unittest import SkipTest, TestCase

from tests.cpu import slowness
from tests.crowd import CHANGES, Client, Crowd, Scraper
from tests.live_process import Timed, twistd
from tests.scrapes import Scrape
from tests.turns import Turn

FES = 800
BES = 200
PORTS = 100
"""Of each of the two protocols."""

SESSIONS = 1200
VISITORS = 1000
VISITS = 2000
SCRAPES = 6
FLAPPING = 90.0
"""Most seconds that all of these may take; it is two or three where the machine does nothing else.
"""

HTTP_PORT = 8080
"""Of the gateway's own host, which is hardly anybody else's."""

SCRAPE = 0.02
"""CPU seconds that a scrape may take, on a CPU that is not slowed down."""

STALL = 0.05
"""CPU seconds that one turn of the gateway's reactor may take, likewise."""

DESCRIPTORS = 4096

_log = Logger()


def figures(turns: list[Turn]) -> dict[str, tuple[float, float, float]]:
    """Milliseconds by the wall clock and of CPU time: the median, the 99th percentile, the most."""
    found = {}
    for name in ("wall", "cpu"):
        took = sorted(getattr(turn, name) * 1000 for turn in turns)
        marks = (len(took) // 2, len(took) * 99 // 100, -1)
        found[name] = tuple(round(took[mark], 1) for mark in marks)
    return found  # type: ignore[return-value]


class Stalls(TestCase):
    """The gateway in a process of its own, whose reactor's turns are timed.

    What is asserted is the CPU time of its thread: the wall clock has in it what the rest of the
    machine does meanwhile.
    """

    if not hasattr(select, "epoll"):
        skip = "the turns are timed at epoll"

    def setUp(self) -> None:
        """The crowd's connections all have one end in this process."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
            raise SkipTest(f"{hard} descriptors are allowed, {DESCRIPTORS} needed")
        if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS:
            resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
            self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))

    def check_turns(self, turns: list[Turn], what: str) -> None:
        """No turn is a stall."""
        found = figures(turns)
        _log.info(
            "{what}: {count} turns, p50, p99 and max in ms: {found}",
            what=what,
            count=len(turns),
            found=found,
        )
        self.assertTrue(max(turn.cpu for turn in turns) < STALL * slowness(), (what, found))

    def check_pushes(self, clients: list[Client], changes: int) -> None:
        """They are far fewer than the changes, and each is one message to all of a kind."""
        pushes = [client.states[1:] for client in clients]  # the first answered `register`
        most = max(map(len, pushes))
        _log.info("{changes} changes, {most} pushes", changes=changes, most=most)
        self.assertTrue(2 <= most <= changes / 10, (most, changes))
        self.assertEqual(len(set().union(*pushes)), most)

    def test_pushes_never_stall_the_reactor(self) -> None:
        """200 ports change state quickly with 1,000 clients, who have all come at once."""
        limits = {"max_fe": FES, "max_be": BES}
        with twistd(self.mktemp(), zmq=PORTS, srt=PORTS, kind=Timed, relay=limits) as gateway:
            crowd = Crowd(gateway)
            gateway.before_closing(crowd.close)
            began = time.monotonic()
            fes = crowd.register(FES, "FE")
            bes = crowd.register(BES, "BE", protocol="1.1")
            registered = time.monotonic()
            crowd.churn(SESSIONS)
            settled = time.monotonic()
            gateway.terminate()
            self.assertEqual((crowd.lost, gateway.ended()[0]), (0, 0))
        for kind in (fes, bes):
            self.check_pushes(kind, crowd.sessions * CHANGES)
        turns = gateway.turns()
        coming = [turn for turn in turns if began <= turn.ended <= registered]
        churning = [turn for turn in turns if registered < turn.ended <= settled]
        self.check_turns(coming, "1,000 clients come")
        self.check_turns(churning, "200 ports change")
        self.check_turns(turns, "from the start to the stop")

    def test_scrapes_while_1000_clients_come_and_go(self) -> None:
        """A scrape costs what it costs at rest, and nobody else waits long for it."""
        with twistd(
            self.mktemp(),
            zmq=PORTS,
            srt=PORTS,
            kind=Timed,
            relay={"max_fe": 2 * VISITORS},
            http={"endpoint": f"tcp:{HTTP_PORT}:interface={{host}}"},
        ) as gateway:
            crowd = Crowd(gateway)
            gateway.before_closing(crowd.close)
            gateway.fe()  # once it is answered, HTTP listens too
            scraper = Scraper(crowd, HTTP_PORT)
            crowd.flap(
                VISITORS,
                lambda: crowd.visits >= VISITS and len(scraper.took) >= SCRAPES,
                FLAPPING,
            )
            gateway.terminate()
            self.assertEqual((crowd.lost, gateway.ended()[0]), (0, 0))
        found = Scrape(scraper.last)
        self.assertGreater(found.of("relayx_registrations_total", role="FE"), VISITORS)
        turns = gateway.turns()
        costs = sorted(
            max(turn.cpu for turn in turns if asked <= turn.ended <= answered)
            for asked, answered in scraper.took
        )
        _log.info("{count} scrapes, CPU seconds: {costs}", count=len(costs), costs=costs)
        self.assertLess(costs[len(costs) // 2], SCRAPE * slowness(), costs)
        self.check_turns(turns, "scraped while clients come and go")
