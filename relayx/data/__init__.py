"""The data plane's bytes: HELLO on a port, and the session of one FE with one BE."""
