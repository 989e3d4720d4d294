"""The tests of relayx; run them with ``trial tests``."""

import faulthandler
import sys

from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, and nothing about relayx.
settings.register_profile(
    "relayx", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("relayx")

STUCK = 1800.0
"""Seconds after which a process of trial says where each thread is: no run takes that long."""

if sys.__stderr__ is not None:
    faulthandler.dump_traceback_later(STUCK, file=sys.__stderr__)
