"""``relayx send`` and ``relayx recv``: whole, or an error and nothing left behind."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx.cli.transfer import Receipt, decode_receipt, encode_receipt
from tests.live import SECRET, Gateway, live
from tests.relayx_process import RelayxProcess, relayx, run_relayx

MIB = 1024 * 1024


def sha256(data: bytes) -> str:
    """In hex."""
    return hashlib.sha256(data).hexdigest()


class ReceiptTests(SynchronousTestCase):
    """The receiver's one line."""

    def test_round_trip(self) -> None:
        """It is JSON with two keys."""
        receipt = Receipt(3, sha256(b"abc"))
        self.assertEqual(
            json.loads(encode_receipt(receipt)), {"bytes": 3, "sha256": sha256(b"abc")}
        )
        self.assertEqual(decode_receipt(encode_receipt(receipt)), receipt)

    def test_anything_else(self) -> None:
        """Is no receipt."""
        line = encode_receipt(Receipt(3, "x"))
        for answer in (b"", b"{}\n", line[:-1], line + line, b"x" * 5000 + b"\n", b'{"bytes":3}\n'):
            self.assertIsNone(decode_receipt(answer))


class TransferCase(TestCase):
    """A folder of its own, and what is in it."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def left(self) -> list[str]:
        """The names in the folder."""
        return sorted(os.listdir(self.folder))

    def waiting(self, receiver: RelayxProcess) -> None:
        """Wait until a receiver is registered."""
        receiver.line("waiting at")

    def port(self, gateway: Gateway) -> int:
        """The port where the receiver waits."""
        state = gateway.fe().state(lambda state: bool(state["zmq_ready_ports"]))
        return int(state["zmq_ready_ports"][0])


class WholeTests(TransferCase):
    """What comes through is the same, and both ends say so."""

    def assert_summary(self, done: RelayxProcess, output: str, data: bytes) -> None:
        """Bytes and digest are told, and all went well."""
        self.assertEqual(done.ended(), 0, done.stderr)
        self.assertIn(f"{len(data)} bytes in ", output)
        self.assertIn(f"sha256 {sha256(data)}\n", output)

    @live()
    def test_files(self, gateway: Gateway) -> None:
        """From a file to a file: 0 bytes, one, and 20 MiB, all at once."""
        at = {"gateway": gateway.host, "cwd": str(self.folder)}
        with ExitStack() as stack:
            running = []
            for size, protocol in ((0, "zmq"), (1, "srt"), (20 * MIB, "zmq")):
                data = random.Random(size).randbytes(size)
                (self.folder / f"from{size}").write_bytes(data)
                way = ("--protocol", protocol, "--service", f"of-{size}")
                receiver = stack.enter_context(relayx("recv", f"to{size}", *way, **at))
                running.append((size, data, receiver, ("send", f"from{size}", *way)))
            for _, _, receiver, _ in running:
                self.waiting(receiver)
            senders = [stack.enter_context(relayx(*send, **at)) for *_, send in running]
            for (size, data, receiver, _), sender in zip(running, senders, strict=True):
                for done in (receiver, sender):
                    done.ended()
                    self.assert_summary(done, done.stdout.decode(), data)
                self.assertIn("the receiver has the same", sender.stderr)
                self.assertEqual((self.folder / f"to{size}").read_bytes(), data)
        self.assertEqual(len(self.left()), 6)

    @live()
    def test_force(self, gateway: Gateway) -> None:
        """Replaces a file that exists, and does so only at the end. Nothing secret is logged."""
        old = self.folder / "to"
        old.write_bytes(b"old")
        receive = ("recv", "-vv", "--force", "to")
        with relayx(*receive, gateway=gateway.host, cwd=str(self.folder)) as receiver:
            fe = gateway.entering(self.port(gateway))
            fe.expect("RLX1PAIRED")
            self.assertEqual(old.read_bytes(), b"old")
            fe.send(b"new")
            fe.shutdown()
            self.assertEqual(decode_receipt(fe.rest()[0]), Receipt(3, sha256(b"new")))
            self.assertEqual(receiver.ended(), 0)
        self.assertEqual(old.read_bytes(), b"new")
        self.assertEqual(self.left(), ["to"])
        self.assertIn("info: ", receiver.stderr)
        self.assertNotIn(SECRET, receiver.stderr)

    @live()
    def test_receipt_not_waited_for(self, gateway: Gateway) -> None:
        """What has come whole is kept, whatever the sender does then."""
        with relayx("recv", "to", gateway=gateway.host, cwd=str(self.folder)) as receiver:
            fe = gateway.entering(self.port(gateway))
            fe.expect("RLX1PAIRED")
            fe.send(b"all")
            fe.shutdown()
            fe.receive(1)
            fe.reset()
            self.assertEqual(receiver.ended(), 0, receiver.stderr)
        self.assertEqual((self.folder / "to").read_bytes(), b"all")

    @live()
    def test_standard_streams(self, gateway: Gateway) -> None:
        """From a pipe to a pipe; what is told does not get between."""
        data = random.Random(7).randbytes(3 * MIB + 5)
        with relayx("recv", gateway=gateway.host) as receiver:
            self.waiting(receiver)
            sent = run_relayx("send", gateway=gateway.host, stdin=data)
            self.assert_summary(sent, sent.stdout.decode(), data)
            self.assertEqual(receiver.ended(), 0)
        self.assertEqual(receiver.stdout, data)
        self.assert_summary(receiver, receiver.stderr, data)

    @live()
    def test_one_back_end_by_its_id(self, gateway: Gateway) -> None:
        """``--be`` finds it among others."""
        with (
            relayx("recv", "--client-id", "one", gateway=gateway.host) as one,
            relayx("recv", "--client-id", "two", gateway=gateway.host) as two,
        ):
            self.waiting(one)
            self.waiting(two)
            sent = run_relayx("send", "--be", "two", gateway=gateway.host, stdin=b"for two")
            self.assertEqual(sent.ended(), 0, sent.stderr)
            self.assertEqual(two.ended(), 0)
            self.assertEqual((two.stdout, one.stdout), (b"for two", b""))

    @live()
    def test_another_back_end(self, gateway: Gateway) -> None:
        """One that sends back all does as well; a receipt it is not."""
        with relayx("be", "--echo", gateway=gateway.host) as back_end:
            back_end.line("registered")
            data = bytes(2 * MIB)
            sent = run_relayx("send", gateway=gateway.host, stdin=data)
        self.assert_summary(sent, sent.stdout.decode(), data)
        self.assertIn("no receipt", sent.stderr)


class BrokenTests(TransferCase):
    """What is not whole is an error at both ends."""

    @live()
    def test_sender_resets(self, gateway: Gateway) -> None:
        """The receiver says that it is not whole, and leaves nothing."""
        with relayx("recv", "to", gateway=gateway.host, cwd=str(self.folder)) as receiver:
            fe = gateway.entering(self.port(gateway))
            fe.expect("RLX1PAIRED")
            fe.send(b"half of it")
            fe.reset()
            self.assertEqual(receiver.ended(), 1)
        self.assertIn("Error: not all came, 10 bytes", receiver.stderr)
        self.assertEqual(self.left(), [])

    @live()
    def test_receiver_resets(self, gateway: Gateway) -> None:
        """So does the sender."""
        gateway.be11()
        be = gateway.waiting(gateway.zmq[0])
        with relayx("send", "/dev/zero", gateway=gateway.host) as sender:
            be.paired()
            be.receive(100)
            be.reset()
            self.assertEqual(sender.ended(), 1)
        self.assertRegex(sender.stderr, "Error: the session broke after [0-9]+ bytes, and the ")

    @live()
    def test_all_was_read_and_not_confirmed(self, gateway: Gateway) -> None:
        """A reset after the whole file was handed over: what is known is told, and no more."""
        gateway.be11()
        be = gateway.waiting(gateway.zmq[0])
        (self.folder / "from").write_bytes(b"12345")
        with relayx("send", "from", gateway=gateway.host, cwd=str(self.folder)) as sender:
            be.paired()
            self.assertEqual(be.rest(), (b"12345", "end"))
            be.reset()
            self.assertEqual(sender.ended(), 1)
        self.assertIn(
            "Error: the session broke after 5 bytes, and the receiver has not confirmed that it"
            " has them: ",
            sender.stderr,
        )

    @live()
    def test_full_disk(self, gateway: Gateway) -> None:
        """The receiver names its file and what failed, and leaves nothing; the sender fails."""
        with relayx("recv", "to", gateway=gateway.host, cwd=str(self.folder)) as receiver:
            self.waiting(receiver)
            resource.prlimit(receiver.process.pid, resource.RLIMIT_FSIZE, (MIB, MIB))
            sent = run_relayx("send", gateway=gateway.host, stdin=bytes(4 * MIB))
            self.assertEqual((sent.ended(), receiver.ended()), (1, 1))
        self.assertIn("Error: to cannot be written: File too large\n", receiver.stderr)
        self.assertEqual(self.left(), [])

    @live()
    def test_wrong_receipt(self, gateway: Gateway) -> None:
        """A receiver that has something else: status 1, and what it has."""
        gateway.be11()
        be = gateway.waiting(gateway.zmq[0])
        with relayx("send", gateway=gateway.host) as sender:
            be.paired()
            be.rest()
            be.send(encode_receipt(Receipt(5, sha256(b"other"))))
            be.shutdown()
            self.assertEqual(sender.ended(), 1)
        self.assertIn(f"has something else: 5 bytes, sha256 {sha256(b'other')}", sender.stderr)

    @live()
    def test_no_receiver(self, gateway: Gateway) -> None:
        """What was asked for, and what the gateway says."""
        done = run_relayx("send", "--service", "x", "--wait", "0s", gateway=gateway.host)
        self.assertEqual(done.ended(), 1)
        self.assertIn("no zmq session with service 'x' within 0 s: PORT_EXHAUSTED", done.stderr)

    @live()
    def test_interrupted(self, gateway: Gateway) -> None:
        """Ctrl-C, before and in the middle: status 1, and nothing is left."""
        with (
            relayx("recv", "to", gateway=gateway.host, cwd=str(self.folder)) as waiting,
            relayx("recv", "--protocol", "srt", gateway=gateway.host) as receiving,
        ):
            self.waiting(waiting)
            self.assertEqual(waiting.interrupted(), 1)
            self.assertEqual(self.left(), [])
            state = gateway.fe().state(lambda state: bool(state["srt_ready_ports"]))
            fe = gateway.entering(state["srt_ready_ports"][0])
            fe.expect("RLX1PAIRED")
            fe.send(b"x")
            receiving.wait_for(lambda: receiving.stdout == b"x")
            receiving.signal(signal.SIGTERM)
            self.assertEqual(receiving.ended(), 1)
        self.assertIn("Error: interrupted", waiting.stderr)
        self.assertIn("Error: interrupted", receiving.stderr)

    @live(log={"stream": "be"})
    def test_sender_interrupted(self, gateway: Gateway) -> None:
        """Ctrl-C while it waits for a receiver, and with half of it sent: status 1, a reset."""
        be_client = gateway.be11()
        with relayx("send", "--wait", "1m", gateway=gateway.host) as early:
            be_client.find("log", lambda line: "PORT_EXHAUSTED" in str(line))
            self.assertEqual(early.interrupted(), 1)
        be = gateway.waiting(gateway.zmq[0])
        with relayx("send", gateway=gateway.host, stdin=subprocess.PIPE) as sender:
            be.paired()
            sender.process.stdin.write(b"half")
            sender.process.stdin.flush()
            self.assertEqual(be.receive(4), b"half")
            self.assertEqual(sender.interrupted(), 1)
        self.assertEqual(be.rest(), (b"", "reset"))
        for it in (early, sender):
            self.assertEqual(it.stderr, "Error: interrupted\n")

    @live()
    def test_file_exists(self, gateway: Gateway) -> None:
        """Refused before anything is sent; so is one that comes in between."""
        (self.folder / "to").write_bytes(b"precious")
        done = run_relayx("recv", "to", gateway=gateway.host, cwd=str(self.folder))
        self.assertEqual(done.ended(), 1)
        self.assertIn("to exists; --force replaces it", done.stderr)
        with relayx("recv", "new", gateway=gateway.host, cwd=str(self.folder)) as receiver:
            self.waiting(receiver)
            (self.folder / "new").write_bytes(b"precious too")
            sent = run_relayx("send", gateway=gateway.host, stdin=b"data")
            self.assertEqual((sent.ended(), receiver.ended()), (1, 1))
        self.assertIn("new exists", receiver.stderr)
        self.assertEqual((self.folder / "new").read_bytes(), b"precious too")
        self.assertEqual(self.left(), ["new", "to"])
