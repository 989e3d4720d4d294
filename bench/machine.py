"""Where and when a run took place."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path


def describe() -> dict[str, str | int]:
    """The machine, its kernel, and the time."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "kernel": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": _system(),
        "python": platform.python_version(),
    }


def _value(file: str, key: str, separator: str) -> str:
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return "unknown"
    for line in lines:
        name, _, value = line.partition(separator)
        if name.strip() == key:
            return value.strip().strip('"')
    return "unknown"


def _processor() -> str:
    return _value("/proc/cpuinfo", "model name", ":")


def _system() -> str:
    return _value("/etc/os-release", "PRETTY_NAME", "=")


def load_average() -> list[float]:
    """Over one, five and fifteen minutes."""
    return [round(value, 2) for value in os.getloadavg()]
