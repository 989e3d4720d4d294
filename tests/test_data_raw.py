"""Connections of ZMTP without HELLO: what they are answered, who is refused, what is passed on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relayx.core.messages import Cause, Role
from relayx.data.raw import Raw
from relayx.zmtp import Credentials, Fault, OldVersion, ZmtpError, error_command, greeting_bytes
from tests.common import BE_AT, FE_AT, SRT
from tests.fuzzing import clean_log, examples
from tests.test_zmtp_reader import command
from tests.zmtp_bed import PORT, Raws, Wire, credentials, message, opening, ready

SIGNATURE = greeting_bytes()[:10]
HELLO_FE = b'RLX1HELLO {"role":"FE"}\n'
HELLO_BE = b'RLX1HELLO {"role":"BE","on_fe_close":"close"}\n'
OLD = SIGNATURE + b"\x01\x08\x00\x00"
"""What libzmq 3 says first, of ZMTP 2.0."""


class Answers(Raws):
    """The greeting that a peer gets in its peer's stead."""

    def test_as_far_as_it_waits_for_it(self) -> None:
        """libzmq sends ten bytes and waits; the rest depends on its mechanism and version."""
        for mechanism in ("NULL", "PLAIN", "CURVE"):
            for minor in (0, 1):
                raw = Raw(inspect=True)
                own = greeting_bytes(mechanism, minor=minor)
                self.assertEqual(raw.feed(own[:10]), own[:11])
                self.assertEqual(raw.feed(own[10:63]), b"")
                self.assertEqual((raw.minor, raw.told_minor), (None, None))
                self.assertEqual(raw.feed(own[63:]), own[11:])
                self.assertEqual((raw.minor, raw.told_minor), (minor, minor))
                self.assertEqual(raw.feed(b""), b"")

    def test_the_lower_minor_version_of_two(self) -> None:
        for own, waiting, told in ((1, 0, 0), (0, 1, 0), (1, 1, 1), (1, None, 1)):
            raw = Raw(inspect=True, waiting_minor=lambda waiting=waiting: waiting)
            self.assertEqual(raw.feed(opening("SUB", minor=own)), greeting_bytes(minor=told))
            self.assertEqual((raw.minor, raw.told_minor), (own, told))

    def test_known(self) -> None:
        """By READY with NULL, by HELLO of PLAIN where credentials are asked, else at once."""
        for mechanism, said, without, asked in (
            ("NULL", b"", False, False),
            ("NULL", ready("REQ"), True, True),
            ("NULL", error_command("no"), False, False),
            ("PLAIN", b"", True, False),
            ("PLAIN", credentials("me", "mine"), True, True),
            ("CURVE", b"", True, True),
        ):
            raw = Raw(inspect=True)
            self.assertFalse(raw.is_known(credentials=False))
            raw.feed(greeting_bytes(mechanism) + said)
            found = raw.is_known(credentials=False), raw.is_known(credentials=True)
            self.assertEqual(found, (without, asked), (mechanism, said))
            self.assertEqual(raw.kind, "REQ" if said == ready("REQ") else "")
            told = Credentials("me", "mine") if said == credentials("me", "mine") else None
            self.assertEqual(raw.credentials, told)

    def test_off(self) -> None:
        raw = Raw(inspect=False)
        self.assertEqual(raw.feed(b"\xffwhatever"), b"")
        self.assertEqual((raw.is_known(credentials=True), raw.minor, raw.kind), (True, None, ""))

    def test_no_zmtp(self) -> None:
        raw = Raw(inspect=True)
        with self.assertRaises(OldVersion):
            raw.feed(OLD)
        with self.assertRaises(ZmtpError) as caught:
            Raw(inspect=True).feed(greeting_bytes() + b"\xff")
        self.assertIs(caught.exception.fault, Fault.MALFORMED)


class Alone(Raws):
    """One peer on a port."""

    def test_a_be_waits(self) -> None:
        wire = self.come(opening("REP"), BE_AT)
        self.assertEqual(wire.wrote, greeting_bytes())
        self.assertEqual((self.roles, self.ready_ports()), ([Role.BE], (PORT,)))

    def refused(self, wire: Wire, text: str, **faults: int) -> None:
        self.assertEqual(self.faults(), faults)
        self.assertEqual((wire.shut, wire.closed, self.outcomes), (True, "", []))
        self.assertNotIn(b"ERROR", wire.wrote)
        self.assertTrue(any(text in line for line in self.lines), self.lines)

    def run_logged(self, data: bytes) -> Wire:
        with clean_log(self) as self.lines:
            return self.come(data)

    def test_an_old_version_is_closed(self) -> None:
        wire = self.run_logged(OLD)
        self.refused(wire, "the peer speaks ZMTP 2.0; 3.0 or later is needed", version=1)
        self.assertEqual(wire.wrote, b"")

    def test_an_old_version_is_closed_that_waited_for_an_answer(self) -> None:
        """As libzmq 3 does with ten bytes of a greeting of later versions."""
        wire = self.run_logged(OLD[:10])
        self.assertEqual(wire.wrote, greeting_bytes()[:11])
        with clean_log(self) as self.lines:
            self.says(wire, OLD[10:])
        self.refused(wire, "ZMTP 2.0", version=1)

    def test_garbage(self) -> None:
        wire = self.run_logged(b"\xff" + b"garbage" * 10)
        self.refused(wire, "byte 10 of the greeting is 0x61", malformed=1)
        self.says(wire, b"more of it" * 1000)
        self.assertEqual((self.faults(), wire.paused), ({"malformed": 1}, False))

    def test_garbage_behind_the_greeting(self) -> None:
        wire = self.run_logged(greeting_bytes() + b"garbage")
        self.refused(wire, "a frame with flags 0x67", malformed=1)

    def test_an_unknown_mechanism(self) -> None:
        wire = self.run_logged(greeting_bytes("GSSAPI"))
        self.refused(wire, "the mechanism is GSSAPI; known are NULL, PLAIN, CURVE", mechanism=1)

    def test_silence(self) -> None:
        """An FE has ``hello_timeout`` to say what it is."""
        with clean_log(self) as self.lines:
            wire = self.come(greeting_bytes())
            self.passes(2.0)
        self.refused(wire, "it did not say what it is within 2 s", ended=1)

    def test_a_waiting_be_that_breaks_off(self) -> None:
        """With PLAIN it is a BE at once, and goes on speaking."""
        wire = self.come(greeting_bytes("PLAIN"), BE_AT)
        self.assertEqual(self.ready_ports(), (PORT,))
        with clean_log(self) as self.lines:
            self.says(wire, command(b"\x04NONE"))
        self.refused(wire, "NONE at the start of its handshake with PLAIN", malformed=1)
        self.passes(2.0)
        self.assertEqual(self.ready_ports(), ())

    def test_one_that_refuses_its_peer(self) -> None:
        """As libzmq does whose ZAP handler refuses the gateway; it stays until it is closed."""
        wire = self.run_logged(greeting_bytes() + error_command("400"))
        self.refused(wire, "it refused the handshake: 400", ended=1)
        self.assertEqual((self.roles, self.ready_ports()), ([], ()))

    def test_early_bytes_are_bounded(self) -> None:
        wire = self.come(opening("PUSH"), BE_AT)
        for _ in range(10):
            wire.pending.append(bytes(20000))
        self.turn()
        self.assertTrue(wire.paused)
        self.assertTrue(65536 <= len(wire.connection.held) < 65536 + 20000)

    def test_not_on_other_ports(self) -> None:
        """0xff begins no HELLO, and an srt port takes nothing else."""
        self.assertIsNone(self.plane.direct.take(SRT[0]))


class Fitting(Raws):
    """Two that go together."""

    def test_null(self) -> None:
        fe, be = self.pair(opening("PULL"), opening("PUSH") + message(b"early"))
        self.assertTrue(self.running())
        self.assertEqual(self.roles, [Role.BE, Role.FE])
        self.assertEqual(be.wrote, greeting_bytes() + ready("PUSH") + message(b"early"))
        self.assertEqual(fe.wrote, greeting_bytes() + ready("PULL"))
        self.says(fe, message(b"later"))
        self.assertTrue(be.wrote.endswith(message(b"early") + message(b"later")))
        seen = self.plane.sessions.zmtp_seen("pair-1")
        assert seen is not None
        self.assertEqual(
            (seen.mechanism, seen.fe_type, seen.be_type, seen.fe_to_be_messages),
            ("NULL", "PUSH", "PULL", None),
        )
        self.assertEqual(str(seen), "ZMTP of NULL, PUSH to PULL")

    def test_plain_is_followed(self) -> None:
        """The BE is its server, and nothing is held back of what one answers the other."""
        fe, be = self.pair(greeting_bytes("PLAIN"), greeting_bytes("PLAIN"))
        self.assertFalse(self.running())
        self.says(fe, credentials("u", "p"))
        self.assertEqual(be.wrote, greeting_bytes("PLAIN") + credentials("u", "p"))
        welcome = command(b"\x07WELCOME")
        self.says(be, welcome)
        self.assertEqual(fe.wrote, greeting_bytes("PLAIN") + welcome)
        initiate = command(b"\x08INITIATE" + ready("REQ")[8:])
        self.says(fe, initiate)
        self.assertFalse(self.running())
        self.says(be, ready("REP"))
        self.assertTrue(self.running())
        self.assertEqual(fe.wrote, greeting_bytes("PLAIN") + welcome + ready("REP"))
        self.assertTrue(be.wrote.endswith(initiate))

    def test_curve_is_followed(self) -> None:
        fe, be = self.pair(greeting_bytes("CURVE"), greeting_bytes("CURVE"))
        for wire, said in (
            (fe, command(b"\x05HELLO" + bytes(194))), (be, command(b"\x07WELCOME" + bytes(160))),
            (fe, command(b"\x08INITIATE" + bytes(200))), (be, command(b"\x05READY" + bytes(40))),
        ):  # fmt: skip
            self.assertFalse(self.running())
            self.says(wire, said)
        self.assertTrue(self.running())
        seen = self.plane.sessions.zmtp_seen("pair-1")
        self.assertEqual(str(seen), "ZMTP of CURVE, encrypted to encrypted")

    def test_hello_fe(self) -> None:
        """It gets the BE's own greeting, and has said its own behind HELLO."""
        fe, be = self.pair(opening("REP"), HELLO_FE)
        self.assertEqual((fe.wrote, be.wrote), (greeting_bytes(), greeting_bytes()))
        self.says(fe, greeting_bytes())
        self.assertEqual(be.wrote, greeting_bytes())
        self.says(fe, ready("REQ") + message(b"", more=True) + message(b"?"))
        self.assertTrue(self.running())
        self.assertEqual(fe.wrote, opening("REP"))
        self.assertEqual(be.wrote, opening("REQ") + message(b"", more=True) + message(b"?"))

    def test_hello_be(self) -> None:
        fe, be = self.pair(HELLO_BE, opening("REQ"))
        self.assertEqual(be.wrote, greeting_bytes())
        self.says(be, greeting_bytes()[:10])
        self.says(be, greeting_bytes()[10:] + ready("REP"))
        self.assertTrue(self.running())
        self.assertEqual(fe.wrote, greeting_bytes() + ready("REP"))
        self.assertEqual(be.wrote, opening("REQ"))

    def test_hello_of_both_is_not_looked_at(self) -> None:
        fe, be = self.pair(HELLO_BE, HELLO_FE)
        self.assertTrue(self.running())
        self.says(fe, b"\xffno ZMTP at all")
        self.assertEqual((be.wrote, fe.wrote), (b"\xffno ZMTP at all", b""))
        self.assertIsNone(self.plane.sessions.zmtp_seen("pair-1"))

    def test_uninspected(self) -> None:
        self.change(inspect="off")
        fe, be = self.pair(SIGNATURE, SIGNATURE)
        self.assertTrue(self.running())
        self.assertEqual((fe.wrote, be.wrote), (SIGNATURE, SIGNATURE))

    def test_turned_on_while_one_waits(self) -> None:
        """It was not greeted, and gets its peer's own greeting."""
        self.change(inspect="off")
        be = self.come(SIGNATURE, BE_AT)
        self.change(inspect="handshake")
        fe = self.come(opening("PUSH"))
        self.assertEqual(be.wrote, greeting_bytes())
        self.says(be, opening("PULL")[10:])
        self.assertTrue(self.running())
        self.assertEqual(be.wrote, opening("PUSH"))
        self.assertEqual(fe.wrote, greeting_bytes() + ready("PULL"))

    def test_turned_off_while_one_waits(self) -> None:
        """It was greeted, which the one that comes then has to make good for."""
        be = self.come(opening("PULL"), BE_AT)
        self.change(inspect="off")
        fe = self.come(SIGNATURE)
        self.assertEqual(fe.wrote, greeting_bytes())
        self.says(fe, opening("PUSH")[10:])
        self.assertEqual(fe.wrote, opening("PULL"))
        self.assertTrue(self.running())
        self.assertEqual(be.wrote, greeting_bytes() + ready("PUSH"))

    def test_an_old_version_goes_through_where_nothing_is_read(self) -> None:
        self.change(inspect="off")
        fe, be = self.pair(OLD, OLD)
        self.assertEqual((fe.wrote, be.wrote), (OLD, OLD))

    @examples(150)
    @given(data=st.data())
    def test_whatever_the_order(self, data: st.DataObject) -> None:
        """Each gets a greeting and then exactly what the other said behind its own."""
        if hasattr(self, "plane"):
            self.doCleanups()
        self.settings = {"inspect": data.draw(st.sampled_from(("handshake", "messages")))}
        self.begin()
        content = st.lists(st.binary(max_size=400), max_size=5)
        said = []
        for kind in ("DEALER", "ROUTER"):
            early = b"".join(message(body) for body in data.draw(content))
            said.append(opening(kind, minor=data.draw(st.integers(0, 1))) + early)
        left = [[*said], [b"", b""]]
        wires = [self.dial(BE_AT), self.dial(FE_AT)]
        while any(left[0]):
            side = data.draw(st.sampled_from([n for n in (0, 1) if left[0][n]]))
            size = data.draw(st.integers(1, len(left[0][side])))
            self.says(wires[side], left[0][side][:size])
            left[0][side] = left[0][side][size:]
        self.assertTrue(self.running())
        for wire, other in ((wires[0], said[1]), (wires[1], said[0])):
            self.assertEqual(wire.wrote[64:], other[64:])
            self.assertEqual(wire.wrote[:11], greeting_bytes()[:11])
        self.assertEqual(self.faults(), {})


class Refused(Raws):
    """Two that do not go together, or one of which goes away."""

    def waits_on(self, be: Wire) -> None:
        """The BE has seen nothing of who was refused, and is there for the next."""
        self.assertEqual((be.wrote, be.shut), (greeting_bytes(), False))
        self.assertEqual(self.ready_ports(), (PORT,))
        fe = self.come(opening("PUSH") + message(b"fits"))
        self.assertEqual(be.wrote, greeting_bytes() + ready("PUSH") + message(b"fits"))
        self.assertEqual(fe.wrote, greeting_bytes() + ready("PULL"))

    def test_types(self) -> None:
        fe, be = self.pair(opening("PULL"), opening("PUB"))
        text = "PUB does not talk to PULL; it does to SUB or XSUB"
        self.assertEqual(fe.wrote, greeting_bytes() + error_command(text))
        self.assertTrue(fe.shut)
        (outcome,) = self.outcomes
        self.assertEqual((outcome.cause, outcome.text), (Cause.FE_CLOSED, text))
        self.assertTrue(outcome.be_kept)
        self.assertEqual(self.faults(), {"socket_type": 1})
        self.waits_on(be)

    def test_mechanisms(self) -> None:
        fe, be = self.pair(opening("PULL"), greeting_bytes("CURVE"))
        text = "the FE uses CURVE and the BE NULL; both have to use one mechanism"
        self.assertEqual(fe.wrote, greeting_bytes("CURVE") + error_command(text))
        self.assertEqual(self.faults(), {"mechanism": 1})
        self.waits_on(be)

    def test_two_clients(self) -> None:
        said = greeting_bytes("PLAIN") + credentials("u", "p")
        fe, be = self.pair(said, said)
        text = "both are clients of PLAIN; one has to be its server and the other its client"
        self.assertEqual(fe.wrote, greeting_bytes("PLAIN") + error_command(text))
        self.assertEqual((be.wrote, self.ready_ports()), (greeting_bytes("PLAIN"), (PORT,)))

    def test_two_servers(self) -> None:
        said = greeting_bytes("PLAIN", as_server=True)
        fe, _ = self.pair(said, said)
        text = "both are servers of PLAIN; one has to be its server and the other its client"
        self.assertTrue(fe.wrote.endswith(error_command(text)), fe.wrote)
        self.assertEqual(self.ready_ports(), (PORT,))

    def test_a_peer_of_hello(self) -> None:
        """A BE of HELLO has been told that it is paired, so that it cannot wait for another."""
        fe, be = self.pair(HELLO_BE, opening("PUB"))
        self.says(be, opening("PULL"))
        self.assertEqual(be.wrote, greeting_bytes())
        self.assertIn(error_command("PUB does not talk to PULL; it does to SUB or XSUB"), fe.wrote)
        self.assertEqual((be.shut, self.ready_ports()), (True, ()))

    def test_an_fe_of_hello_that_speaks_no_zmtp(self) -> None:
        fe, be = self.pair(opening("PULL"), HELLO_FE)
        self.says(fe, b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(fe.wrote, greeting_bytes())
        self.assertEqual(self.faults(), {"malformed": 1})
        self.waits_on(be)

    def test_a_be_of_hello_that_speaks_no_zmtp(self) -> None:
        """It is the one to blame, and the FE may come again: no ERROR."""
        fe, be = self.pair(HELLO_BE, opening("PUSH"))
        with clean_log(self) as lines:
            self.says(be, b"220 ready\r\n")
        self.assertTrue(any(f"with {BE_AT}: the first byte" in line for line in lines), lines)
        self.assertEqual(fe.wrote, greeting_bytes())
        self.assertEqual((fe.shut, be.shut, self.ready_ports()), (True, True, ()))
        self.assertEqual(self.outcomes[0].cause, Cause.BE_CLOSED)

    def test_an_fe_that_breaks_off_in_its_first_bytes(self) -> None:
        """What the BE has said before is not lost."""
        self.change(inspect="messages")
        fe, be = self.pair(opening("PULL"), opening("PUSH") + b"garbage")
        self.assertEqual((fe.wrote, self.faults()), (greeting_bytes(), {"malformed": 1}))
        self.waits_on(be)

    def test_an_error_instead_of_ready(self) -> None:
        """It is closed before it is anybody's, and the BE never hears of it."""
        with clean_log(self) as lines:
            fe, be = self.pair(opening("PULL"), greeting_bytes() + error_command("no"))
        self.assertTrue(any("it refused the handshake: no" in line for line in lines), lines)
        self.assertEqual((fe.wrote, fe.shut, self.outcomes), (greeting_bytes(), True, []))
        self.assertEqual(self.roles, [Role.BE])
        self.waits_on(be)

    def test_an_error_of_a_side_of_hello(self) -> None:
        """Such as a service behind ``relayx be --forward``: it ends at once, not with the peer."""
        for first, second, refusing in (
            (HELLO_BE, opening("PUSH"), "BE"),
            (opening("PULL"), HELLO_FE, "FE"),
        ):
            self.begin()
            fe, be = self.pair(first, second)
            self.says(be if refusing == "BE" else fe, greeting_bytes() + error_command("400"))
            (outcome,) = self.outcomes
            self.assertEqual(outcome.text, f"the {refusing} refused the handshake: 400")
            self.assertEqual((fe.shut, outcome.be_kept), (True, refusing == "FE"))
            self.assertNotIn(b"ERROR", fe.wrote + be.wrote)

    def test_wrong_credentials_end_to_end(self) -> None:
        """The BE's ERROR reaches the FE, which goes away."""
        fe, be = self.pair(greeting_bytes("PLAIN"), greeting_bytes("PLAIN"))
        self.says(fe, credentials("u", "wrong"))
        self.says(be, command(b"^RROR\x03400"))
        self.assertTrue(fe.wrote.endswith(command(b"^RROR\x03400")))
        fe.connection.readConnectionLost()
        self.assertEqual(self.outcomes[0].text, "the BE refused the handshake: 400")
        self.assertEqual((be.shut, self.faults()), (True, {"ended": 1}))

    def test_an_fe_that_goes(self) -> None:
        fe, be = self.pair(HELLO_BE, opening("PUSH"))
        fe.drop()
        self.assertEqual(self.outcomes[0].text, "the FE ended in the handshake of ZMTP")
        self.assertEqual((be.shut, self.ready_ports()), (True, ()))

    def test_a_be_that_goes(self) -> None:
        fe, be = self.pair(opening("PULL"), HELLO_FE)
        be.connection.end_of_stream_seen()
        (outcome,) = self.outcomes
        self.assertEqual(
            (outcome.cause, outcome.text),
            (Cause.BE_CLOSED, "the BE ended in the handshake of ZMTP"),
        )
        self.assertEqual((fe.shut, be.closed, outcome.be_kept), (True, "closed", False))

    def test_one_that_takes_too_long(self) -> None:
        _, be = self.pair(opening("PULL"), HELLO_FE)
        self.passes(29.9)
        self.assertEqual(self.outcomes, [])
        self.passes(0.2)
        self.assertEqual(self.outcomes[0].text, "the handshake of ZMTP took longer than 30 s")
        self.assertEqual(self.faults(), {"ended": 1})
        self.waits_on(be)

    def test_ended_by_an_administrator(self) -> None:
        fe, be = self.pair(opening("PULL"), HELLO_FE)
        self.perform(self.room.switchboard.end_session("pair-1", Cause.ADMIN))
        self.assertEqual((fe.closed, be.closed), ("closed", "closed"))
        self.assertEqual(self.outcomes[0].cause, Cause.ADMIN)
        self.passes(31.0)
        self.assertEqual((len(self.outcomes), self.faults()), (1, {}))

    def test_what_is_held_meanwhile_is_bounded(self) -> None:
        """One that says much before the other has said anything is not read on."""
        fe, be = self.pair(HELLO_BE, opening("PUSH"))
        body = message(bytes(30000))
        for _ in range(20):
            fe.pending.append(body)
        self.turn()
        self.assertTrue(fe.paused)
        self.assertGreater(len(fe.pending), 15)
        self.says(be, opening("PULL"))
        self.turn()
        self.assertTrue(self.running())
        self.assertEqual((fe.paused, len(fe.pending)), (False, 0))
        self.assertEqual(be.wrote, opening("PUSH") + body * 20)

    def test_a_be_that_waits_again_is_read_no_further_than_before(self) -> None:
        """Nor is what it said lost."""
        be = self.come(opening("PULL"), BE_AT)
        for _ in range(10):
            be.pending.append(bytes(20000))
        self.turn()
        self.come(opening("PUB"))
        self.assertTrue(be.paused)
        fe = self.come(opening("PUSH"))
        self.turn()
        self.assertEqual(fe.wrote, opening("PULL") + bytes(200000))


class Versions(Raws):
    """ZMTP 3.0 and 3.1, which differ in how a SUB subscribes."""

    def check(self, be: tuple[str, int], fe: tuple[str, int], told: int, runs: bool) -> None:
        self.doCleanups()
        self.begin()
        front, back = self.pair(opening(be[0], minor=be[1]), opening(fe[0], minor=fe[1]))
        self.assertEqual(back.wrote[:64], greeting_bytes(minor=be[1]))
        self.assertEqual(front.wrote[:64], greeting_bytes(minor=told))
        self.assertEqual(self.running(), runs)
        if not runs:
            self.assertIn(b"3.0_connects_first", front.wrote)
            self.assertEqual((self.faults(), self.ready_ports()), ({"version": 1}, (PORT,)))

    def test_the_later_is_told_what_the_earlier_knows(self) -> None:
        self.check(("PUB", 0), ("SUB", 1), 0, True)
        self.check(("SUB", 0), ("PUB", 1), 0, True)
        self.check(("REP", 0), ("REQ", 1), 0, True)

    def test_a_sub_of_30_is_understood_by_all(self) -> None:
        self.check(("PUB", 1), ("SUB", 0), 0, True)
        self.check(("PULL", 1), ("PUSH", 0), 0, True)

    def test_a_sub_of_31_that_came_first(self) -> None:
        for kind in ("SUB", "XSUB"):
            self.check((kind, 1), ("PUB", 0), 0, False)

    def test_an_fe_that_waited(self) -> None:
        """It is closed, and told what the BE knows when it comes again."""
        owner = self.room.fe11("f")
        first = self.come(opening("PUB"), BE_AT)
        self.room.acquire(owner)
        first.drop()
        self.passes(2.5)
        fe = self.come(opening("SUB"), FE_AT)
        be = self.come(opening("PUB", minor=0), BE_AT)
        self.assertEqual(self.roles, [Role.BE, Role.FE, Role.BE])
        self.assertEqual((fe.wrote, fe.shut), (greeting_bytes(minor=1), True))
        self.assertEqual((be.wrote, self.faults()), (greeting_bytes(minor=0), {"version": 1}))
        fe = self.come(opening("SUB"), FE_AT)
        self.assertEqual(fe.wrote, greeting_bytes(minor=0) + ready("PUB"))
        self.assertTrue(self.running())

    def test_behind_hello(self) -> None:
        """An FE of HELLO hears the BE's own greeting, and is as the BE sees it."""
        fe, _ = self.pair(opening("SUB"), HELLO_FE)
        self.says(fe, opening("PUB", minor=0))
        self.assertIn(b"3.0_connects_first", fe.wrote)
        self.doCleanups()
        self.begin()
        fe, _ = self.pair(opening("PUB", minor=0), HELLO_FE)
        self.says(fe, opening("SUB"))
        self.assertTrue(self.running())

    def test_nobody_waits_any_more(self) -> None:
        be = self.come(opening("PUB", minor=0), BE_AT)
        be.drop()
        self.passes(2.5)
        fe = self.come(opening("SUB"), BE_AT)
        self.assertEqual(fe.wrote, greeting_bytes(minor=1))


class Ticketed(Raws):
    """``ticket`` admission on one host: who shows credentials is an FE, who does not a BE."""

    rules = {"admission": "ticket"}
    settings = {"zmtp_credentials": True}

    def begin(self) -> None:
        super().begin()
        self.room.be11("worker")
        self.owner = self.room.fe11("phone")

    def server(self) -> Wire:
        """A server of libzmq, which waits for its client's HELLO."""
        return self.come(greeting_bytes("PLAIN"), BE_AT)

    def client(self, username: str = "phone", password: str = "", at: str = BE_AT) -> Wire:
        """A client of libzmq, whose HELLO follows its greeting once it has the gateway's."""
        wire = self.come(greeting_bytes("PLAIN"), at)
        self.says(wire, credentials(username, password))
        return wire

    def lease(self) -> str:
        """The ticket of a lease on the port, whose BE is gone."""
        be = self.server()
        self.passes(0.5)
        ticket = self.room.acquire(self.owner).ticket
        be.drop()
        self.passes(2.0)
        self.assertEqual(self.room.state().zmq_empty_ports[:1], (PORT,))
        self.roles.clear()
        return ticket

    def met(self, fe: Wire, be: Wire, ticket: str) -> None:
        """The two are paired, and the server is asked."""
        told = credentials("phone", ticket)
        self.assertEqual(be.wrote, greeting_bytes("PLAIN") + told)
        self.assertEqual(fe.wrote, greeting_bytes("PLAIN"))
        self.assertEqual(self.roles, [Role.FE, Role.BE])

    def nobody_is_left(self) -> None:
        """The port is empty, no place is kept, and nothing is looked at any more."""
        board = self.room.board
        self.assertEqual((board.links, board.ports[PORT].waiting_be), ({}, None))
        self.assertEqual(self.plane.direct._undecided, {})

    def test_server_first(self) -> None:
        be = self.server()
        self.passes(0.4)
        self.assertEqual((be.wrote, self.ready_ports()), (greeting_bytes("PLAIN"), ()))
        self.passes(0.1)
        self.assertEqual(self.ready_ports(), (PORT,))
        ticket = self.room.acquire(self.owner).ticket
        fe = self.client(password=ticket)
        self.roles.reverse()
        self.met(fe, be, ticket)

    def test_one_that_says_that_it_is_the_server(self) -> None:
        self.come(greeting_bytes("PLAIN", as_server=True), BE_AT)
        self.assertEqual(self.ready_ports(), (PORT,))

    def test_client_first(self) -> None:
        ticket = self.lease()
        fe = self.client(password=ticket)
        self.assertEqual(self.ready_ports(), ())
        be = self.server()
        self.passes(0.5)
        self.met(fe, be, ticket)

    def test_a_be_restarts_and_its_client_is_back_first(self) -> None:
        ticket = self.lease()
        for number in (1, 2, 3):
            fe, be = self.client(password=ticket), self.server()
            self.passes(0.5)
            self.met(fe, be, ticket)
            self.says(be, command(b"\x07WELCOME"))
            self.says(fe, command(b"\x08INITIATE" + ready("REQ")[8:]))
            self.says(be, ready("REP"))
            self.assertTrue(self.running())
            self.perform(self.room.switchboard.end_session(f"pair-{number}", Cause.ADMIN))
            self.assertFalse(self.running())
            self.passes(0.1)
            self.roles.clear()

    def test_a_place_that_is_kept(self) -> None:
        """It is the server's, and not for the client on the same host."""
        ticket = self.lease()
        self.server()
        self.passes(0.5)
        self.wires.pop().drop()
        states = self.states
        self.roles.clear()
        fe = self.client(password=ticket)
        be = self.server()
        self.passes(0.5)
        self.met(fe, be, ticket)
        self.assertEqual(states + 1, self.states)  # busy

    def test_a_client_without_a_lease(self) -> None:
        """Nor with a wrong one: the port is never ready for it."""
        for held in (False, True):
            if held:
                self.lease()
            states = self.states
            for username, password in (("nobody", "x"), ("phone", "wrong"), ("", "")):
                wire = self.client(username, password)
                self.assertEqual((wire.shut, wire.wrote), (True, greeting_bytes("PLAIN")))
                self.passes(1.0)
                self.assertEqual(self.states, states)
            self.nobody_is_left()
        self.assertEqual(set(self.roles), {Role.FE})

    def test_credentials_in_pieces(self) -> None:
        """Whoever has begun to say something is no server, however slow it is."""
        wire = self.server()
        self.says(wire, credentials("phone", "x")[:5])
        self.passes(1.5)
        self.assertEqual((self.roles, self.states), ([], 0))
        self.says(wire, credentials("phone", "x")[5:])
        self.assertEqual((self.roles, wire.shut), ([Role.FE], True))

    def test_late_and_wrong(self) -> None:
        """It has been taken for a BE, and leaves without keeping the place."""
        wire = self.server()
        self.passes(0.6)
        self.assertEqual(self.ready_ports(), (PORT,))
        self.says(wire, credentials("nobody", "x"))
        self.assertEqual((self.ready_ports(), wire.shut), ((), True))
        self.nobody_is_left()
        wire.drop()
        self.nobody_is_left()

    def test_late_and_right(self) -> None:
        ticket = self.lease()
        fe = self.server()
        self.passes(0.6)
        self.says(fe, credentials("phone", ticket))
        self.assertEqual((fe.shut, fe.paused), (False, True))
        self.roles.pop(0)
        be = self.server()
        self.passes(0.5)
        self.met(fe, be, ticket)

    def test_late_and_paired(self) -> None:
        """Two clients have met by that mistake: both connect again, and so none gets an ERROR."""
        ticket = self.lease()
        by_hello = f'RLX1HELLO {{"role":"FE","ticket":"{ticket}"}}\n'.encode()
        for hello in (False, True):
            be = self.server()
            self.passes(0.6)
            fe = self.come(by_hello) if hello else self.client(password=ticket)
            self.says(be, credentials("phone", ticket))
            for wire in (fe, be):
                self.assertTrue(wire.shut)
                self.assertNotIn(b"ERROR", wire.wrote)
            self.assertEqual(self.outcomes.pop().cause, Cause.BE_CLOSED)
            self.nobody_is_left()

    def test_curve_is_not_asked(self) -> None:
        """Its client may be a BE, which is admitted by its address alone."""
        hello = command(b"\x05HELLO" + bytes(194))
        self.come(greeting_bytes("CURVE") + hello, BE_AT)
        self.assertEqual(self.ready_ports(), (PORT,))
        ticket = self.room.acquire(self.owner).ticket
        fe = self.come(f'RLX1HELLO {{"role":"FE","ticket":"{ticket}"}}\n'.encode())
        self.says(fe, greeting_bytes("CURVE"))
        self.assertEqual((fe.wrote, self.outcomes), (greeting_bytes("CURVE") + hello, []))

    def test_a_server_that_comes_while_the_session_runs(self) -> None:
        """Its predecessor's, whose end the gateway sees later."""
        be = self.server()
        self.passes(0.5)
        fe = self.client(password=self.room.acquire(self.owner).ticket)
        second = self.server()
        self.passes(0.5)
        be.drop()
        fe.drop()
        self.assertEqual(self.ready_ports(), ())
        self.passes(0.5)
        self.assertEqual((self.roles, second.shut), ([Role.BE, Role.FE, Role.BE], False))

    def test_one_that_goes_undecided(self) -> None:
        self.server().drop()
        self.nobody_is_left()
        with clean_log(self) as lines:
            be = self.server()
            self.passes(0.5)
            self.client(password=self.room.acquire(self.owner).ticket)
            silent = self.come(greeting_bytes("PLAIN"))
            for _ in range(4):
                self.passes(0.5)
        self.assertTrue(any("did not say what it is within 2 s" in line for line in lines), lines)
        self.assertEqual((silent.shut, be.shut, self.plane.direct._undecided), (True, False, {}))

    def test_a_short_hello_timeout(self) -> None:
        self.change(hello_timeout=0.2)
        self.server()
        self.passes(0.1)
        self.assertEqual(self.ready_ports(), (PORT,))


class Places(Raws):
    """A library that gives its handshake up and comes again keeps its place (issue: 2 s)."""

    def test_comes_back(self) -> None:
        be = self.come(opening("REP"), BE_AT)
        states = self.states
        for _ in range(3):
            be.drop()
            self.passes(1.9)
            be = self.come(opening("REP"), BE_AT)
        self.assertEqual((self.states, self.ready_ports()), (states, (PORT,)))
        self.assertEqual(self.roles, [Role.BE] * 4)
        fe = self.come(opening("REQ"))
        self.assertTrue(self.running())
        self.assertEqual(fe.wrote, greeting_bytes() + ready("REP"))

    def test_stays_away(self) -> None:
        self.come(opening("REP"), BE_AT).drop()
        self.passes(2.1)
        self.assertEqual(self.ready_ports(), ())

    def test_an_fe_that_comes_meanwhile_waits_for_it(self) -> None:
        self.come(opening("REP"), BE_AT).drop()
        fe = self.come(opening("REQ"), BE_AT)
        self.assertEqual(self.roles, [Role.BE, Role.FE])
        self.assertFalse(self.running())
        be = self.come(opening("REP"), BE_AT)
        self.assertTrue(self.running())
        self.assertEqual(be.wrote, greeting_bytes() + ready("REQ"))
        self.assertEqual(fe.wrote, greeting_bytes() + ready("REP"))
