"""The rules of the gateway, without I/O: events and the time in, effects out.

Nothing below this package imports Twisted, opens a socket, reads a clock, draws a random
number or writes a log. Time, names and tickets are passed in, so every rule can be tested
with plain calls.
"""
