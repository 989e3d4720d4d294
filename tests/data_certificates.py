"""Certificates for the data ports of test gateways, made once a run and thrown away after it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from relayx.config.model import DataTls
from tests.certificates import self_signed

NAME = "gateway.example"


@cache
def _directory() -> Path:
    made = tempfile.mkdtemp(prefix="relayx-tls-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def write_pair(directory: Path, label: str) -> tuple[Path, Path]:
    """A self-signed certificate for NAME and its key, as PEM files; `label` is its subject's."""
    made = self_signed(directory, label, [NAME])
    return Path(made.certificate), Path(made.key)


@cache
def pair() -> tuple[Path, Path]:
    """The certificate and key that most tests use."""
    return write_pair(_directory(), "data")


def data_tls(*, required: bool = False) -> DataTls:
    """The section ``data.tls`` with them."""
    certificate, key = pair()
    return DataTls(certificate=str(certificate), private_key=str(key), required=required)
