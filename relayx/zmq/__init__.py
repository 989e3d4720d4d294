"""Broker mode: libzmq sockets of the gateway's own, where many meet many on one pair of ports.

Needs pyzmq (``relayx[zmq]``), in all modules but :mod:`relayx.zmq.settings` and
:mod:`relayx.zmq.counts`.
"""
