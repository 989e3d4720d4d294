"""Adds the SRT pump in C to what setup.cfg says; without a compiler, Python moves the messages."""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).parent / "relayx" / "srt"))

from _pumpbuild import ffibuilder

extension = ffibuilder.distutils_extension()
extension.optional = True
setup(ext_modules=[extension])
