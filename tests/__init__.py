"""The tests of relayx; run them with ``trial tests``."""

from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, and nothing about relayx.
settings.register_profile(
    "relayx", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("relayx")
