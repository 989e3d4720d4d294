"""Makes ``twistd --reactor relayx`` known; the code behind it is in relayx.reactor."""

from twisted.application.reactors import Reactor

relayx = Reactor("relayx", "relayx.reactor", "epoll(7), serving relayx sessions first.")
