"""The control plane's bytes: framing, bounded sending, telemetry, log streaming."""
