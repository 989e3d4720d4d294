"""relayx: a relay gateway for services and clients that can only dial out."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("relayx")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"
