"""Facts about TCP sockets that both planes of the gateway need."""
