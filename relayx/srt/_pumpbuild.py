"""Builds ``relayx.srt._pump`` from pump.c, by cffi in API mode; setup.py runs it."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

_here = Path(__file__).parent
_header = (_here / "pump.h").read_text()

ffibuilder = FFI()
ffibuilder.cdef(_header)
ffibuilder.set_source(
    "relayx.srt._pump", f"#include <stdint.h>\n{_header}\n{(_here / 'pump.c').read_text()}"
)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=str(_here.parent.parent))
