"""A gateway in the test's own process that was started from files, and is reloaded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import defer, reactor, threads

from relayx.config.faults import ConfigError
from relayx.config.load import Environment, Sources
from relayx.impact import Impact
from relayx.origin import Origin
from relayx.service import GatewayService
from tests.live import SECRET, Gateway, hosted, on_free_ports, random_host, settings
from tests.live_process import config_text


def in_the_reactor(call: Callable[..., Any], *args: Any) -> Any:
    """Make a call where the gateway lives."""
    return threads.blockingCallFromThread(reactor, call, *args)


class Filed(Gateway):
    """A gateway and its two files.

    :ivar config: the configuration file; `secrets` the other.
    """

    def __init__(self, directory: Path, zmq: int, srt: int, sections: dict[str, Any]) -> None:
        super().__init__(random_host(), zmq, srt)
        directory.mkdir(parents=True, exist_ok=True)
        self.config, self.secrets = directory / "config.yaml", directory / "secrets.json"
        self._sections = sections
        self.write()

    def sections(self, **changed: Any) -> dict[str, Any]:
        """The configuration of the start, with some keys changed; None leaves one out."""
        whole = settings(self, self._sections)
        for name, keys in changed.items():
            if not isinstance(keys, dict):
                whole[name] = keys
                continue
            section = whole.setdefault(name, {})
            section.update(keys)
            for key in [key for key, value in section.items() if value is None]:
                del section[key]
        return whole

    def write(self, secrets: dict[str, str] | None = None, **changed: Any) -> None:
        """Write both files, each in one step."""
        _replace(self.config, config_text(self.sections(**changed)))
        _replace(self.secrets, json.dumps({"auth_secret": SECRET, **(secrets or {})}))

    def start(self) -> None:
        """Start the gateway from the files."""
        origin = Origin(Sources(Environment.DEV, str(self.config), str(self.secrets)))
        loaded = origin.read()
        service = GatewayService(loaded.config, loaded.secrets, reactor, origin=origin)
        service.privilegedStartService()
        service.startService()
        self.service = service

    # from the scenario's thread

    def reload(self, secrets: dict[str, str] | None = None, **changed: Any) -> Impact:
        """Write the files and have them reloaded."""
        self.write(secrets, **changed)
        impact: Impact = in_the_reactor(self.service.reload)
        return impact

    def refused(self, secrets: dict[str, str] | None = None, **changed: Any) -> str:
        """Write files that cannot be reloaded; why not, a line for each fault."""
        self.write(secrets, **changed)
        before = self.service.config, self.service.secrets, self.service.reloading.revision
        try:
            in_the_reactor(self.service.reload)
        except ConfigError as error:
            after = self.service.config, self.service.secrets, self.service.reloading.revision
            if after != before or self.service.reloading.last_ok:
                raise AssertionError("a reload was refused, and changed something") from None
            return str(error)
        raise AssertionError("the reload was not refused")

    def ports(self, zmq: int, srt: int, *, first: int = 0) -> dict[str, int | None]:
        """The port keys of section ``relay`` for other numbers of ports; 0 for none.

        :param first: how many zmq ports to begin later.
        """
        return {
            "zmq_start_port": self.zmq[0] + first if zmq else None,
            "zmq_end_port": self.zmq[0] + first + zmq - 1 if zmq else None,
            "srt_start_port": self.srt[0] if srt else None,
            "srt_end_port": self.srt[0] + srt - 1 if srt else None,
        }


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    os.replace(new, path)


def filed(
    *, zmq: int = 3, srt: int = 2, real_srt: dict[str, Any] | None = None, **sections: Any
) -> Callable[[Callable[..., None]], Callable[..., defer.Deferred[None]]]:
    """As :func:`tests.live.live`, with a gateway that was started from files."""
    if real_srt is not None:
        sections["srt"] = {"enabled": "yes", **real_srt}

    def start(case: Any) -> Filed:
        gateway = Filed(Path(case.mktemp()), zmq, srt, sections)
        gateway.start()
        return gateway

    return hosted(lambda case: on_free_ports(lambda: start(case)))
