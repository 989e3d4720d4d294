"""What ``relayx status`` makes of ``port_state`` where BEs wait by SRT."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from relayx.cli.options import Target
from relayx.cli.status import summary, tables
from relayx.client import Gateway
from relayx.client.events import Connected
from relayx.core.messages import PortState, ServiceCount

STATE = PortState(
    zmq_total=1, srt_total=9, zmq_busy=0, srt_busy=1, zmq_ready_ports=(), srt_ready_ports=(11,),
    zmq_empty_ports=(1,), srt_empty_ports=(14,), srt_native_ready_ports=(12, 13),
    services={"web": ServiceCount(0, 1, 2)},
)  # fmt: skip


class Native(SynchronousTestCase):
    """Ready ports by either transport."""

    def told(self, state: PortState) -> dict[str, Any]:
        target = Target(Gateway("192.0.2.1", secret="s"), "", 1.0, 0)
        return summary(target, Connected("c", "relayx/1"), state)

    def shown(self, state: PortState) -> str:
        console = Console(width=100)
        with console.capture() as capture:
            console.print(tables(self.told(state)))
        return capture.get()

    def test_counts(self) -> None:
        """All states add up to the total."""
        srt = self.told(STATE)["ports"]["srt"]
        counts = [srt[key] for key in ("total", "ready", "busy", "empty", "reserved")]
        self.assertEqual(counts, [9, 6, 1, 1, 1])
        self.assertEqual((srt["ready_ports"], srt["native_ready_ports"]), ([11], [12, 13]))

    def test_services(self) -> None:
        self.assertEqual(
            self.told(STATE)["services"],
            {
                "": {"zmq_ready": 0, "srt_ready": 1, "srt_native_ready": 2},
                "web": {"zmq_ready": 0, "srt_ready": 1, "srt_native_ready": 2},
            },
        )

    def test_for_people(self) -> None:
        """A column more, where there is something for it."""
        self.assertIn("srt by SRT", self.shown(STATE))
        without = msgspec.structs.replace(STATE, srt_native_ready_ports=(), services={})
        self.assertNotIn("srt by SRT", self.shown(without))

    def test_a_gateway_that_does_not_know_them(self) -> None:
        old = msgspec.structs.replace(
            STATE, srt_native_ready_ports=msgspec.UNSET, services=msgspec.UNSET
        )
        self.assertEqual(self.told(old)["ports"]["srt"]["ready"], 1)
