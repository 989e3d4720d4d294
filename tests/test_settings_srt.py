"""What SRT goes by, as it is made of the configuration."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from relayx.config.model import Config, Data, Secrets
from relayx.config.srt import DialMode, DialRole, Enabled, Srt, SrtDial
from relayx.core.messages import Role
from relayx.settings import rules, srt_settings
from relayx.srt.settings import Dial, SrtSettings

SECRETS = Secrets("s", srt_passphrase="hush hush hush")


class Settings(SynchronousTestCase):
    """Each key reaches it, under libsrt's name."""

    def test_defaults(self) -> None:
        """They are libsrt's own in live mode, with the latency each way."""
        told = srt_settings(Config(), Secrets("s"))
        self.assertEqual(
            dict(told.options),
            {
                "mss": 1500, "fc": 25600, "rcvbuf": 8192 * 1472, "sndbuf": 8192 * 1472,
                "rcvlatency": 120, "peerlatency": 120, "maxbw": -1, "inputbw": 0, "oheadbw": 25,
                "snddropdelay": 0, "tlpktdrop": True, "lossmaxttl": 0, "conntimeo": 3000,
                "payloadsize": 1456,
            },
        )  # fmt: skip
        self.assertEqual(told, SrtSettings(options=told.options))

    def test_payloadsize(self) -> None:
        """What TCP's bytes are cut to; a socket takes every message that fits in a packet."""
        for srt, cut, taken in (
            (Srt(), 1316, 1456),
            (Srt(payloadsize=0), 1456, 1456),
            (Srt(payloadsize=188), 188, 1456),
            (Srt(payloadsize=0, mss=1000), 956, 956),
            (Srt(payloadsize=0, packetfilter="fec,cols:10"), 1452, 1452),
            (Srt(mss=9000), 1316, 1456),
        ):
            told = srt_settings(Config(srt=srt), SECRETS)
            self.assertEqual((told.payloadsize, dict(told.options)["payloadsize"]), (cut, taken))

    def test_order(self) -> None:
        """What others are counted by comes first, and a filter before what it leaves."""
        config = Config(srt=Srt(packetfilter="fec,cols:10", pbkeylen=24))
        names = [name for name, _ in srt_settings(config, SECRETS).options]
        self.assertEqual(names[:2], ["mss", "fc"])
        self.assertLess(names.index("packetfilter"), names.index("payloadsize"))
        self.assertEqual(len(names), len(set(names)))

    def test_every_option(self) -> None:
        srt = Srt(
            latency=1, peerlatency=2, maxbw=0, inputbw=4, oheadbw=5, pbkeylen=32, rcvbuf=60000,
            sndbuf=70000, mss=1400, fc=100, snddropdelay=-1, tlpktdrop=False, lossmaxttl=11,
            conntimeo=12, payloadsize=13, packetfilter="fec,cols:14",
        )  # fmt: skip
        told = srt_settings(Config(srt=srt), SECRETS)
        options = dict(told.options)
        self.assertEqual((options.pop("rcvlatency"), options.pop("peerlatency")), (1, 2))
        self.assertEqual(options.pop("payloadsize"), 1400 - 44 - 4)
        not_options = {
            "enabled", "bridge", "fan_out", "dial", "latency", "peerlatency", "payloadsize",
        }  # fmt: skip
        names = set(Srt.__struct_fields__) - not_options
        self.assertEqual(options, {name: getattr(srt, name) for name in names})
        self.assertEqual(told.payloadsize, 13)

    def test_the_rest(self) -> None:
        calls = (
            SrtDial(5, "[2001:db8::1]:6", DialRole.BE, "hush", DialMode.RENDEZVOUS),
            SrtDial(7, "sink.example:8", DialRole.FE),
        )
        srt = Srt(enabled=Enabled.YES, bridge=True, fan_out=9, dial=calls)
        data = Data(interface="::1", hello_timeout=7.5)
        told = srt_settings(Config(srt=srt, data=data), SECRETS)
        self.assertEqual((told.enabled, told.bridge, told.fan_out), ("yes", True, 9))
        self.assertIs(type(told.enabled), str)
        self.assertEqual((told.interface, told.hello_timeout), ("::1", 7.5))
        self.assertEqual(told.passphrase, "hush hush hush")
        self.assertEqual(
            told.dial,
            (Dial(5, "2001:db8::1", 6, Role.BE, "hush", True), Dial(7, "sink.example", 8, Role.FE)),
        )

    def test_rules(self) -> None:
        """What the core decides by."""
        told = rules(Config(srt=Srt(bridge=True, fan_out=9)))
        self.assertEqual((told.srt_bridge, told.srt_fan_out), (True, 9))
        told = rules(Config())
        self.assertEqual((told.srt_bridge, told.srt_fan_out), (False, 1))

    def test_nothing_secret_is_shown(self) -> None:
        entry = SrtDial(5, "a:6", DialRole.BE, "hush")
        told = srt_settings(Config(srt=Srt(dial=(entry,))), SECRETS)
        output = StringIO()
        Console(file=output, width=1000).print(told, told.dial[0])
        text = output.getvalue() + repr(told) + f"{told} {told.dial[0]}"
        self.assertNotIn("hush", text)
        whole, entry_alone = 3 * 2, 2 * 1
        self.assertEqual(text.count("<hidden>"), whole + entry_alone)
        self.assertIn("passphrase=''", repr(SrtSettings()))
