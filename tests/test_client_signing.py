"""The client library and the command line with signed control messages."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copy
from typing import Any

from twisted.internet import reactor as real_reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from relayx.cli.trust import find_trust
from relayx.client import Backend, ControlClient, Distrusted, Frontend, Gateway, Trust, Unreachable
from relayx.client.session import Session
from relayx.core.messages import Role
from relayx.security.keyring import rotate, rotate_to
from relayx.security.keys import ANY_KID, KeyType
from relayx.security.policy import Signing
from relayx.security.signing import Verifier, VerifyingKey
from relayx.testing import LocalGateway
from tests.relayx_process import run_relayx
from tests.signing import KeyFiles, signing_gateway
from tests.test_client_gateway import asynchronous

reactor: Any = real_reactor


class Library(TestCase):
    """`Gateway(..., trust=...)`."""

    def start(self, signing: str) -> LocalGateway:
        self.files = KeyFiles(self.mktemp())
        local = LocalGateway(reactor, security=self.files.section(signing))
        local.start()
        self.addCleanup(local.stop)
        return local

    def gateway(self, local: LocalGateway, trust: Trust | None) -> Gateway:
        found = local.gateway
        return Gateway(found.host, found.port, found.secret, trust)

    def control(self, local: LocalGateway, trust: Trust | None) -> ControlClient:
        client = ControlClient(reactor, self.gateway(local, trust), Role.FE)
        self.addCleanup(client.stop)
        return client

    def trust(self, **changed: Any) -> Trust:
        verifier = Verifier(self.files.public, Signing.REQUIRE)
        return Trust(**{"signer": self.files.signer(), "verifier": verifier, **changed})

    async def unreachable(self, client: ControlClient) -> Exception:
        """Why the first attempt of a client fails."""
        failed: Deferred[Unreachable] = Deferred()
        client.events.on(Unreachable, lambda event: failed.called or failed.callback(event))
        client.start()
        return (await failed).reason.value

    @asynchronous
    async def test_session(self) -> None:
        """A whole session between a signing FE and a signing BE."""
        local = self.start("require")
        ended: Deferred[bytes] = Deferred()

        async def serve(session: Session) -> None:
            ended.callback(await session.stream.read())

        gateway = self.gateway(local, self.trust())  # one for both: each sees every broadcast
        backend = Backend(reactor, gateway, zmq=1, on_session=serve)
        backend.start()
        self.addCleanup(backend.stop)
        frontend = Frontend(reactor, gateway)
        frontend.start()
        self.addCleanup(frontend.stop)
        async with frontend.session() as session:
            await session.stream.write(b"signed")
            self.assertEqual(await ended, b"signed")

    @asynchronous
    async def test_unsigned_client(self) -> None:
        why = await self.unreachable(self.control(self.start("require"), None))
        self.assertIn("SIGNATURE_INVALID", str(why))

    @asynchronous
    async def test_gateway_with_another_key(self) -> None:
        local = self.start("require")
        other = KeyFiles(self.mktemp())
        verifier = Verifier(other.public, Signing.REQUIRE)
        why = await self.unreachable(self.control(local, self.trust(verifier=verifier)))
        self.assertIsInstance(why, Distrusted)
        self.assertIn("not the signature of this message", str(why))

    @asynchronous
    async def test_gateway_that_does_not_sign(self) -> None:
        local = self.start("off")
        why = await self.unreachable(self.control(local, self.trust(signer=None)))
        self.assertIsInstance(why, Distrusted)
        self.assertIn("not signed", str(why))

    @asynchronous
    async def test_any_kid(self) -> None:
        """``relay_public_key`` has no kid: it verifies whatever the gateway calls its key."""
        local = self.start("require")
        (key,) = self.files.public
        verifier = Verifier([VerifyingKey(ANY_KID, key.public_key)], Signing.REQUIRE)
        client = self.control(local, self.trust(verifier=verifier))
        client.start()
        await client.when_connected()
        self.assertGreater(await client.ping(), 0)


class CommandLine(TestCase):
    """``--sign-with`` and ``--gateway-keys``."""

    def ping(self, local: LocalGateway, *arguments: str) -> Any:
        return run_relayx(
            *("ping", "-c", "1", "--connect-timeout", "1h", *arguments),
            gateway=local.host,
            RELAYX_SECRET=local.gateway.secret,
        )

    @signing_gateway("require")
    def test_directories_and_files(self, local: LocalGateway, files: KeyFiles) -> None:
        for own in (files.client, f"{files.client}/fe-1.key"):
            for theirs in (files.gateway, f"{files.gateway}/gw-1.pub"):
                done = self.ping(local, "--sign-with", own, "--gateway-keys", theirs)
                self.assertEqual((done.ended(), done.stderr), (0, ""))

    @signing_gateway("require")
    def test_refused(self, local: LocalGateway, files: KeyFiles) -> None:
        done = self.ping(local)
        self.assertEqual(done.ended(), 1)
        self.assertIn("SIGNATURE_INVALID: the message is not signed", done.stderr)
        done = self.ping(local, "--sign-with", files.client, "--gateway-keys", files.trusted)
        self.assertEqual(done.ended(), 1)
        self.assertIn(f"the gateway at {local.host}:5555 is not trusted", done.stderr)
        done = self.ping(local, "--sign-with", f"{files.client}/fe-1.pub")
        self.assertEqual(done.ended(), 1)
        self.assertIn("fe-1.pub", done.stderr)
        done = self.ping(local, "--gateway-keys", f"{files.client}/none")
        self.assertEqual(done.ended(), 1)
        self.assertIn("does not exist", done.stderr)

    @signing_gateway("accept")
    def test_public_key_of_the_secret_file(self, local: LocalGateway, files: KeyFiles) -> None:
        path = Path(files.where, "secrets.json")
        for kid, status in (("gw-1", 0), ("fe-1", 1)):
            where = files.gateway if kid == "gw-1" else files.client
            pem = Path(where, f"{kid}.pub").read_text()
            secret = local.gateway.secret
            path.write_text(json.dumps({"auth_secret": secret, "relay_public_key": pem}))
            path.chmod(0o600)
            done = run_relayx(
                *("ping", "-c", "1", "--env-file", str(path)),
                gateway=local.host,
                RELAYX_SECRET="",
            )
            self.assertEqual(done.ended(), status, done.stderr)


class Rotation(TestCase):
    """Keys change while everybody stays connected."""

    @asynchronous
    async def test_reload(self) -> None:
        files = KeyFiles(self.mktemp())
        local = LocalGateway(reactor, security=files.section("require"))
        local.start()
        self.addCleanup(local.stop)
        verifier = Verifier(files.public, Signing.REQUIRE)
        found = local.gateway
        trust = Trust(files.signer(), verifier)
        client = ControlClient(
            reactor, Gateway(found.host, found.port, found.secret, trust), Role.FE
        )
        self.addCleanup(client.stop)
        client.start()
        first = await client.when_connected()
        rotate(files.gateway, KeyType.P256, 90, reactor.seconds(), "gw-2")
        client.trust.verifier.replace(files.public)
        local.service.reload(local.service.config, local.service.secrets)
        self.assertGreater(await client.ping(), 0)
        rotate(files.client, KeyType.P256, 90, reactor.seconds(), "fe-2")
        files.trust("fe-2")
        local.service.reload(local.service.config, local.service.secrets)
        client.trust.signer = files.signer()
        self.assertGreater(await client.ping(), 0)
        rotate_to(files.gateway, "gw-1", reactor.seconds())
        local.service.reload(local.service.config, local.service.secrets)
        self.assertGreater(await client.ping(), 0)
        self.assertEqual((client.connected, client.client_id), (True, first))

    @asynchronous
    async def test_keys_that_a_command_read(self) -> None:
        """The files of --gateway-keys and --sign-with are read again when it connects again."""
        files = KeyFiles(self.mktemp())
        local = LocalGateway(reactor, security=files.section("require"))
        local.start()
        self.addCleanup(local.stop)
        believed = files.where / "believed"
        believed.mkdir()
        copy(Path(files.gateway, "gw-1.pub"), believed)
        trust = find_trust(files.client, str(believed), "")
        found = local.gateway
        client = ControlClient(
            reactor, Gateway(found.host, found.port, found.secret, trust), Role.FE
        )
        self.addCleanup(client.stop)
        client.start()
        await client.when_connected()
        rotate(files.client, KeyType.P256, 90, reactor.seconds(), "fe-2")
        files.trust("fe-2")
        Path(files.trusted, "fe-1.pub").unlink()
        rotate(files.gateway, KeyType.P256, 90, reactor.seconds(), "gw-2")
        copy(Path(files.gateway, "gw-2.pub"), believed)
        local.service.reload(local.service.config, local.service.secrets)
        with self.assertRaises(Distrusted):
            await client.ping()
        await client.when_connected()
        self.assertGreater(await client.ping(), 0)
        (believed / "gw-2.pub").write_text("half a key")
        client.trust.renew()  # those of before hold
        self.assertGreater(await client.ping(), 0)
