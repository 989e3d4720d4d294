"""``relayx firewall``, and what ``relayx check`` says of ports (guide section 8.4)."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twisted.internet import threads
from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import SkipTest, TestCase

from relayx.cli.firewallrules import FORMATS, Whitelist, iptables_rules, nft_rules
from relayx.cli.sshports import ssh_ports
from relayx.config.ephemeral import LocalPorts
from relayx.config.limits import Machine
from relayx.config.listeners import Listener, listeners, opened_line
from tests.config_files import BIG, Files
from tests.hosts import NEAR, TwoHosts
from tests.test_cli_init_check import Commands

RELAY = {
    "control_port": 5555,
    "srt_start_port": 30000,
    "srt_end_port": 30002,
    "zmq_start_port": 30101,
    "zmq_end_port": 30101,
}


def tool(name: str) -> str:
    """The path of a program, or a skip."""
    found = shutil.which(name)
    if found is None:
        raise SkipTest(f"{name} is not installed")
    return found


def judged(command: list[str], text: str) -> str:
    """What a program says against the rules, "" where it takes them; nothing is applied."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    for words in ("Operation not permitted", "Permission denied", "not supported"):
        if words in done.stderr:
            raise SkipTest(f"{command[0]} cannot be asked here: {done.stderr.strip()}")
    return done.stderr if done.returncode else ""


class Rules(Files):
    """Which rules come of which configuration."""

    def whitelist(self, sections: dict[str, Any], ssh: tuple[int, ...] = (22,)) -> Whitelist:
        whole = {"relay": RELAY, **sections}
        return Whitelist("config.yaml", list(ssh), listeners(self.load(whole).config))

    def nft(self, sections: dict[str, Any]) -> list[str]:
        """The rules that let relayx through."""
        lines = nft_rules(self.whitelist(sections)).splitlines()
        return [line.strip() for line in lines if '"relayx' in line]

    def test_default(self) -> None:
        """Control and both ranges over IPv4, where it listens; HTTP is on loopback."""
        self.assertEqual(
            self.nft({}),
            [
                'meta nfproto ipv4 tcp dport 5555 accept comment "relayx control"',
                'meta nfproto ipv4 tcp dport 30000-30002 accept comment "relayx srt"',
                'meta nfproto ipv4 udp dport 30000-30002 accept comment "relayx srt"',
                'meta nfproto ipv4 tcp dport 30101 accept comment "relayx zmq"',
            ],
        )

    def test_no_srt(self) -> None:
        """Without it there is nothing on UDP."""
        sections: dict[str, Any] = {"srt": {"enabled": "no"}}
        self.assertNotIn("udp", "".join(self.nft(sections)))
        text = iptables_rules(self.whitelist({}))
        self.assertIn("-4 -A RELAYX-INPUT -p udp --dport 30000:30002 -m comment", text)
        self.assertNotIn("-p udp --dport 3", iptables_rules(self.whitelist(sections)))

    def test_endpoints(self) -> None:
        """Each kind of strports string: what is opened, and at which address."""
        for text, rule in (
            ("tcp:7000", "meta nfproto ipv4 tcp dport 7000"),
            ("tcp:port=7000", "meta nfproto ipv4 tcp dport 7000"),
            ("tcp6:7000", "tcp dport 7000"),
            ("tcp:7000:interface=\\:\\:", "tcp dport 7000"),
            ("tcp:7000:interface=10.1.2.3", "ip daddr 10.1.2.3 tcp dport 7000"),
            ("tcp:7000:10.1.2.3", "ip daddr 10.1.2.3 tcp dport 7000"),
            ("haproxy:tcp:7000:interface=10.1.2.3", "ip daddr 10.1.2.3 tcp dport 7000"),
            ("tcp6:7000:interface=2001\\:db8\\:\\:1", "ip6 daddr 2001:db8::1 tcp dport 7000"),
            ("tcp:7000:interface=gateway.example", "tcp dport 7000"),
            ("tcp:7000:interface=127.0.0.1", ""),
            ("tcp6:7000:interface=\\:\\:1", ""),
            ("tcp:7000:interface=localhost", ""),
            ("unix:/run/relayx.sock", ""),
        ):
            with self.subTest(text=text):
                control = {"control": {"endpoints": [text]}, "data": {"interface": "127.0.0.1"}}
                wanted = [f'{rule} accept comment "relayx control"'] if rule else []
                self.assertEqual(self.nft(control), wanted)
                self.assertNotIn("not known", nft_rules(self.whitelist(control)))

    def test_http(self) -> None:
        """The HTTP endpoint is let through where it is not on loopback."""
        for text, found in (("tcp:8080", 1), ("tcp:8080:interface=127.0.0.1", 0), ("", 0)):
            rules = self.nft({"http": {"endpoint": text}})
            self.assertEqual(sum('"relayx http"' in rule for rule in rules), found)

    def test_unknown_port(self) -> None:
        """An endpoint that names no port is remarked on."""
        sections = {"control": {"endpoints": ["systemd:domain=INET:index=0"]}}
        for rules in FORMATS.values():
            self.assertIn(
                "# control endpoint systemd:domain=INET:index=0: its port is not known here",
                rules(self.whitelist(sections)),
            )

    def test_kept(self) -> None:
        """SSH on its ports, loopback, answers and ICMP; and the rest is dropped."""
        whitelist = self.whitelist({}, (22, 2222))
        for text in (
            'iifname "lo" accept',
            "ct state established,related accept",
            "meta l4proto { icmp, ipv6-icmp } accept",
            "tcp dport { 22, 2222 } accept",
            "policy drop;",
        ):
            self.assertIn(text, nft_rules(whitelist))
        lines = iptables_rules(whitelist).splitlines()
        for text in ("-i lo -j ACCEPT", "ESTABLISHED,RELATED -j ACCEPT", "--dport 2222 "):
            self.assertEqual(sum(text in line for line in lines), 1, text)
        self.assertEqual(lines[-3], "-A RELAYX-INPUT -j DROP")
        self.assertIn("-4 -A RELAYX-INPUT -p tcp --dport 30000:30002 -m comment", "\n".join(lines))

    def everything(self) -> Whitelist:
        endpoints = ["tcp:7000:interface=10.1.2.3", "tcp6:7001:interface=2001\\:db8\\:\\:1"]
        endpoints += ["tcp6:7002", "systemd:domain=INET:index=0"]
        sections = {"control": {"endpoints": endpoints}, "http": {"endpoint": "tcp:8080"}}
        return self.whitelist(sections, (22, 2222))

    def test_nft_takes_them(self) -> None:
        self.assertEqual(judged([tool("nft"), "-c", "-f", "-"], nft_rules(self.everything())), "")

    def test_iptables_takes_them(self) -> None:
        for name in ("iptables-restore", "ip6tables-restore"):
            command = [tool(name), "--noflush", "--test"]
            self.assertEqual(judged(command, iptables_rules(self.everything())), "")

    def test_summary(self) -> None:
        """One line for ``relayx check``."""
        config = self.load({"relay": RELAY, "http": {"endpoint": "tcp:80:interface=10.0.0.1"}})
        self.assertEqual(
            opened_line(config.config),
            "firewall: tcp 5555 (control), 30000-30002 (srt), 30101 (zmq), 80 of 10.0.0.1 (http);"
            " udp 30000-30002 (srt); relayx firewall prints the rules",
        )
        self.assertIn("tcp nothing;", opened_line(self.local().config))

    def local(self) -> Any:
        endpoints = {"endpoints": ["tcp:5555:interface=127.0.0.1"]}
        return self.load({"control": endpoints})

    def test_listener(self) -> None:
        """A port in a row of one."""
        one = Listener("zmq", "fe80::1%eth0", range(7, 8))
        self.assertEqual((one.span, str(one.address), one.is_local), ("7", "fe80::1", False))


class Applied(TestCase):
    """The rules on a host of their own: what passes, and what does not."""

    timeout = 60

    def setUp(self) -> None:
        self.hosts = TwoHosts()
        self.addCleanup(self.hosts.remove)
        self.hosts.make()

    @inlineCallbacks
    def test_nft(self) -> Any:
        apply = [tool("nft"), "-f", "-"]
        yield threads.deferToThread(self.scenario, apply, nft_rules, range(2))

    @inlineCallbacks
    def test_iptables(self) -> Any:
        apply = [tool("iptables-restore"), "--noflush"]
        yield threads.deferToThread(self.scenario, apply, iptables_rules, range(2))

    def scenario(self, apply: list[str], rules: Callable[[Whitelist], str], times: range) -> None:
        opened = [
            Listener("control", "0.0.0.0", range(5555, 5556)),
            Listener("zmq", NEAR, range(30101, 30103)),
            Listener("control", "127.0.0.1", range(5556, 5557)),
        ]
        text = rules(Whitelist("config.yaml", [2222], opened))

        def run(host: ThreadPoolExecutor, call: Callable[..., Any], *args: Any) -> Any:
            return host.submit(call, *args).result()

        def reachable(port: int, source: str) -> bool:
            try:
                socket.create_connection((NEAR, port), 0.5, source_address=(source, 0)).close()
            except TimeoutError:
                return False
            return True

        with ExitStack() as stack:
            for port in (5555, 5556, 30101, 30102, 30103, 2222):
                stack.enter_context(run(self.hosts.near, socket.create_server, (NEAR, port)))
            self.assertTrue(run(self.hosts.far, reachable, 30103, ""))
            for _ in times:  # a second time replaces the first
                found = run(self.hosts.near, judged, apply, text)
                self.assertEqual(found, "")
            for port, passes in (
                (5555, True), (30101, True), (30102, True), (2222, True),
                (5556, False), (30103, False),
            ):  # fmt: skip
                self.assertEqual(run(self.hosts.far, reachable, port, ""), passes, port)
            self.assertTrue(run(self.hosts.near, reachable, 30103, NEAR))
            ping = ["ping", "-c", "1", "-W", "2", NEAR]
            if shutil.which("ping"):
                done = run(self.hosts.far, subprocess.run, ping)
                self.assertEqual(done.returncode, 0)


class Ssh(TestCase):
    """Which ports are SSH's."""

    def ports(self, text: str | None, session: str = "", **others: str) -> list[int]:
        folder = Path(self.mktemp())
        folder.mkdir()
        for name, more in others.items():
            (folder / f"{name}.conf").write_text(more)
        path = folder / "sshd_config"
        if text is not None:
            path.write_text(text.replace("HERE", str(folder.absolute())))
        return ssh_ports(str(path), {"SSH_CONNECTION": session} if session else {})

    def test_rows(self) -> None:
        """What the file says, and what is left out of it."""
        for text, ports in (
            (None, [22]),
            ("", [22]),
            ("#Port 2222\n", [22]),
            ("Port 2222\nport = 22\n  PORT\t2200 # mine\n", [22, 2200, 2222]),
            (
                "ListenAddress 10.0.0.1:2022\nListenAddress [::1]:2023\nListenAddress ::",
                [2022, 2023],
            ),
            ("Port none\nPort 70000\nPort\n", [22]),
        ):
            with self.subTest(text=text):
                self.assertEqual(self.ports(text), ports)

    def test_include(self) -> None:
        """Files that it includes, and one that includes itself."""
        more = {"one": "Port 2201\n", "two": "Port 2202\n"}
        self.assertEqual(self.ports("Include HERE/*.conf\n", **more), [2201, 2202])
        self.assertEqual(self.ports("Include HERE/sshd_config\nPort 2203\n"), [2203])

    def test_session(self) -> None:
        """The port of the session that asks is kept, whatever the file says."""
        self.assertEqual(self.ports("Port 2222\n", "10.0.0.9 40000 10.0.0.1 2022"), [2022, 2222])
        self.assertEqual(self.ports(None, "nonsense"), [22])


class Command(Commands):
    """The command itself."""

    def test_prints(self) -> None:
        """Both formats, and a port of SSH's that is told."""
        self.good()
        text = self.relayx("firewall", "--ssh-port", "2022").stdout
        self.assertIn("# Made by relayx firewall for configs/config.yaml.", text)
        self.assertIn("tcp dport { 2022 } accept", text)
        self.assertIn("30101-30102", text)
        self.assertIn("*filter", self.relayx("firewall", "--format", "iptables").stdout)
        self.relayx("firewall", "--format", "pf", status=2)

    def test_faults(self) -> None:
        """A configuration that is not valid has no rules."""
        self.good()
        self.write("configs/config.yaml", "relay: {max_fe: 0}")
        for command in (["firewall"], ["systemd"], ["systemd", "--sockets"]):
            result = self.relayx(*command, status=1)
            self.assertIn("relay.max_fe = 0", result.stderr)
            self.assertEqual(result.stdout, "")

    def test_check(self) -> None:
        """``relayx check`` has the line, behind those that it had before."""
        self.good()
        lines = self.relayx("check").stdout.splitlines()
        self.assertIn("firewall: tcp 5555 (control), 30101-30102 (zmq)", lines[2])


class Ephemeral(Files):
    """Data ports that the system hands out by itself."""

    def proc(self, handed_out: str, reserved: str) -> LocalPorts:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "ip_local_port_range").write_text(handed_out)
        (folder / "ip_local_reserved_ports").write_text(reserved)
        return LocalPorts.here(folder)

    def warnings(self, local: LocalPorts) -> list[str]:
        relay = {**RELAY, "zmq_end_port": 30110}
        machine = Machine(BIG.descriptors, 0, local)
        return [str(fault) for fault in self.load({"relay": relay}, machine=machine).warnings]

    def test_outside(self) -> None:
        self.assertEqual(self.warnings(self.proc("32768\t60999\n", "\n")), [])

    def test_unknown(self) -> None:
        """A system that does not say, or says something else."""
        self.assertEqual(LocalPorts.here(Path(self.mktemp())), LocalPorts())
        self.assertEqual(self.proc("few", ""), LocalPorts())
        self.assertEqual(self.warnings(LocalPorts()), [])

    def test_reserved(self) -> None:
        self.assertEqual(self.warnings(self.proc("1024 65000", "8080,30000-30200")), [])

    def test_at_risk(self) -> None:
        """One warning a protocol, each with the one command that mends both."""
        found = self.warnings(self.proc("30002 40000", "30104-30105,31000"))
        self.assertEqual(len(found), 2)
        command = "ip_local_reserved_ports=30104-30105,31000,30002,30101-30103,30106-30110"
        for text, key, ports in zip(
            found,
            ("relay.srt_start_port = 30000-30002", "relay.zmq_start_port = 30101-30110"),
            ("means 30002,", "means 30101-30103, 30106-30110,"),
            strict=True,
        ):
            for words in (key, ports, command):
                self.assertIn(words, text)

    def test_broken_ports(self) -> None:
        """A range that could not be read is not looked at."""
        local = self.proc("1024 65000", "")
        relay = {**RELAY, "zmq_end_port": "x"}
        machine = Machine(BIG.descriptors, 0, local)
        self.fault({"relay": relay}, machine=machine)

    def test_here(self) -> None:
        """This machine says something that can be read."""
        local = LocalPorts.here()
        self.assertEqual(bool(local.handed_out), Path("/proc/sys/net/ipv4").exists())
