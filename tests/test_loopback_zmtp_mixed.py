"""ZeroMQ on one side without HELLO and on the other with it, and programs in other languages."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from tests.live import Gateway, live
from tests.relayx_process import relayx
from tests.test_loopback_zmtp import OPEN, ZmtpCase, zmq
from tests.zmq_programs import compiled, node_modules
from tests.zmtp_bed import greeting_bytes, message, ready

SECONDS = 60


class Mixed(ZmtpCase):
    """One side has said HELLO."""

    @live(data=OPEN)
    def test_hello_fe(self, gateway: Gateway) -> None:
        rep = self.waiting(gateway, zmq.REP)
        fe = gateway.entering(gateway.zmq[0])
        fe.paired()
        fe.send(greeting_bytes()[:10])
        self.assertEqual(fe.receive(64)[:11], greeting_bytes()[:11])
        fe.send(greeting_bytes()[10:] + ready("REQ") + message(b"", more=True) + message(b"?"))
        self.assertEqual(rep.recv(), b"?")
        rep.send(b"!")
        got = b""
        while not got.endswith(message(b"", more=True) + message(b"!")):
            got += fe.receive(1)
        self.assertIn(b"REP", got)

    @live(data=OPEN)
    def test_hello_be(self, gateway: Gateway) -> None:
        be = gateway.waiting(gateway.zmq[0])
        req = self.socket(gateway, zmq.REQ)
        req.send(b"?")
        be.expect("RLX1PAIRED")
        be.send(greeting_bytes() + ready("REP"))
        asked = message(b"", more=True) + message(b"?")
        got = b""
        while not got.endswith(asked):
            got += be.receive(1)
        be.send(message(b"", more=True) + message(b"!"))
        self.assertEqual(req.recv(), b"!")

    @live(data=OPEN)
    def test_a_be_of_hello_is_not_kept(self, gateway: Gateway) -> None:
        """Whatever its HELLO and the configuration say: the next FE needs a greeting of its own."""
        self.be_is_not_kept(gateway)

    @live(data=OPEN, zmq_keys={"inspect": "off"})
    def test_a_be_of_hello_is_not_kept_uninspected(self, gateway: Gateway) -> None:
        self.be_is_not_kept(gateway)

    def be_is_not_kept(self, gateway: Gateway) -> None:
        watcher = gateway.fe11("watching")
        asked = message(b"", more=True) + message(b"?")
        for _ in range(2):
            be = gateway.kept(gateway.zmq[0], watcher, on_fe_close="keep")
            req = self.socket(gateway, zmq.REQ)
            req.send(b"?")
            be.send(greeting_bytes() + ready("REP"))
            got = b""
            while not got.endswith(asked):
                got += be.receive(1)
            be.send(message(b"", more=True) + message(b"!"))
            self.assertEqual(req.recv(), b"!")
            req.close(linger=0)
            self.assertEqual(be.rest(), (b"", "end"))
            be.close()
            watcher.state(lambda state: gateway.zmq[0] in state["zmq_empty_ports"])

    @live()
    def test_forwarded_to_a_rep_that_binds(self, gateway: Gateway) -> None:
        """``relayx be --forward`` in front of an unmodified service; one FE after another."""
        context = zmq.Context()
        rep = context.socket(zmq.REP)
        rep.setsockopt(zmq.RCVTIMEO, SECONDS * 1000)
        gateway.before_closing(lambda: (rep.close(linger=0), context.term()))
        port = rep.bind_to_random_port("tcp://127.0.0.1")
        watcher = gateway.fe11("watching")
        told = ("be", "--zmq", "1", "--forward", f"127.0.0.1:{port}")
        with relayx(*told, gateway=gateway.host):
            for number in range(3):
                state = watcher.state(lambda state: bool(state["zmq_ready_ports"]))
                req = self.socket(gateway, zmq.REQ, port=state["zmq_ready_ports"][0])
                req.send(b"%d" % number)
                self.assertEqual(rep.recv(), b"%d" % number)
                rep.send(b"!")
                self.assertEqual(req.recv(), b"!")
                req.close(linger=0)


class Programs(ZmtpCase):
    """Other languages, where they are installed."""

    def run_beside(self, command: list[str], **env: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def ends(self, process: subprocess.Popen[bytes], said: bytes) -> None:
        written, _ = process.communicate(timeout=SECONDS)
        self.assertEqual((process.returncode, written), (0, said))

    def serve(self, rep: Any, count: int) -> None:
        for number in range(count):
            self.assertEqual(rep.recv_multipart(), [b"question", b"%d" % number])
            rep.send_multipart([b"answer", b"%d" % number])

    @live(data=OPEN)
    def test_node(self, gateway: Gateway) -> None:
        """zeromq.js."""
        modules = node_modules()
        rep = self.waiting(gateway, zmq.REP)
        program = f"""
            const zmq = require("zeromq");
            (async () => {{
                const socket = new zmq.Request({{linger: 0}});
                socket.connect("tcp://{gateway.host}:{gateway.zmq[0]}");
                for (let n = 0; n < 20; n++) {{
                    await socket.send(["question", String(n)]);
                    const [word, number] = await socket.receive();
                    if (`${{word}} ${{number}}` !== `answer ${{n}}`) process.exit(2);
                }}
                console.log("done");
                process.exit(0);
            }})();
        """
        process = self.run_beside(["node", "-e", program], NODE_PATH=str(modules))
        self.serve(rep, 20)
        self.ends(process, b"done\n")

    @live(data=OPEN)
    def test_c(self, gateway: Gateway) -> None:
        """libzmq of the system, by its own header."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        source = folder / "req.c"
        source.write_text(r"""
            #include <stdio.h>
            #include <stdlib.h>
            #include <string.h>
            #include <zmq.h>

            int main(int argc, char **argv)
            {
                void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_REQ);
                char number[16], got[2][64];
                int n, part, size;

                if (argc != 2 || zmq_connect(socket, argv[1]))
                    return 1;
                for (n = 0; n < 20; n++) {
                    sprintf(number, "%d", n);
                    zmq_send(socket, "question", 8, ZMQ_SNDMORE);
                    zmq_send(socket, number, strlen(number), 0);
                    for (part = 0; part < 2; part++) {
                        size = zmq_recv(socket, got[part], 63, 0);
                        if (size < 0)
                            return 2;
                        got[part][size] = 0;
                    }
                    if (strcmp(got[0], "answer") || strcmp(got[1], number))
                        return 3;
                }
                puts("done");
                fflush(stdout);
                _Exit(0);
            }
        """)
        program = compiled(source)
        rep = self.waiting(gateway, zmq.REP)
        process = self.run_beside([str(program), f"tcp://{gateway.host}:{gateway.zmq[0]}"])
        self.serve(rep, 20)
        self.ends(process, b"done\n")
