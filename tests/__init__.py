"""The tests of relayx; run them with ``trial tests``."""
