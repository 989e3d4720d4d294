"""The files that the gateway was started with, and the directory that their paths are from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager

from relayx.config.diff import named_files
from relayx.config.load import Loaded, Sources, load
from relayx.config.model import Config


class Origin:
    """Reads them as they were read at first, wherever the process has gone since.

    ``twistd --rundir`` leaves the directory in which the options were read.

    :param sources: the two files, as they were named.
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._directory = os.getcwd()

    def read(self) -> Loaded:
        """Read and check both files.

        :raises ConfigError: with every fault of both.
        """
        with self.there():
            return load(self.sources)

    @contextmanager
    def there(self) -> Iterator[None]:
        """Be in the directory that relative paths are from."""
        try:
            elsewhere = os.getcwd() != self._directory
        except OSError:  # where it is has been removed, and nobody misses it
            os.chdir(self._directory)
            elsewhere = False
        if elsewhere:
            with chdir(self._directory):
                yield
        else:
            yield

    def paths(self, config: Config) -> list[str]:
        """The two files, and all that a configuration names, from anywhere."""
        named = [path for paths in named_files(config).values() for path in paths]
        found = [self.sources.config, self.sources.secrets, *named]
        return [os.path.join(self._directory, path) for path in found]
