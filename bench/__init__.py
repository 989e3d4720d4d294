"""Benchmark of the byte path: the gateway and its peers side by side (``python -m bench``)."""
