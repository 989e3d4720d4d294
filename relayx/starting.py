"""How a gateway starts to listen: files first, then every port, and all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterable

from relayx.audit import Record
from relayx.authentication import Say
from relayx.brokering import Brokering, BrokersMissingError
from relayx.config.model import Config, Secrets
from relayx.core.ports import Port
from relayx.listening import BindError, Listening, StartError
from relayx.net.tls import TlsFileError
from relayx.planes import Planes, SrtUnusableError
from relayx.security.keydir import KeyFileError
from relayx.settings import load_data_tls, srt_settings, zmq_settings
from relayx.trust import KeyWatch, read_keys
from relayx.zmq.errors import BrokerError


class Starting:
    """One start.

    :param say: writes a line in the log.
    """

    def __init__(
        self,
        record: Record,
        key_watch: KeyWatch,
        data: Planes,
        brokering: Brokering,
        listening: Listening,
        say: Say,
    ) -> None:
        self._record = record
        self._key_watch = key_watch
        self._data = data
        self._brokering = brokering
        self._listening = listening
        self._say = say

    def begin(self, config: Config, secrets: Secrets, ports: Iterable[Port]) -> None:
        """Listen on every port, or on none.

        :raises BindError: naming the first port that cannot be bound.
        :raises StartError: where a file cannot be used.
        """
        try:
            self._open_audit(config)
            self._use_keys(config)
            self._use_data_tls(config)
            self._begin_srt(config, secrets)
            self._listening.begin(ports)
            self._listen_for_brokers(config)
        except StartError:
            self._listening.end()
            self._listening.close_connections()
            self._listening.release()
            self._record.close()
            raise
        finally:  # a unit that is not up to date
            for text in self._listening.leave_unused():
                self._say("warn", "inherited", f"{text}; it is not used")

    def _open_audit(self, config: Config) -> None:
        path = config.audit.file
        try:
            self._record.use(self._record.open(path))
        except OSError as failed:
            raise StartError(f"audit.file {path} cannot be opened: {failed.strerror}") from None

    def _use_keys(self, config: Config) -> None:
        try:
            self._key_watch.use(read_keys(config.security))
        except KeyFileError as error:
            raise StartError(str(error)) from None

    def _use_data_tls(self, config: Config) -> None:
        try:
            self._data.set_tls(load_data_tls(config.data.tls))
        except TlsFileError as error:
            raise StartError(f"data.tls: {error}") from None

    def _begin_srt(self, config: Config, secrets: Secrets) -> None:
        if not config.relay.ports("srt"):
            return
        try:
            told = self._data.begin_srt(srt_settings(config, secrets))
        except SrtUnusableError as error:
            raise StartError(str(error)) from None
        self._say("info", "srt", told)

    def _listen_for_brokers(self, config: Config) -> None:
        try:
            self._brokering.listen(zmq_settings(config))
        except BrokerError as error:
            raise BindError(f"cannot listen for a ZeroMQ broker on {error}") from None
        except (BrokersMissingError, KeyFileError) as error:
            raise StartError(str(error)) from None
