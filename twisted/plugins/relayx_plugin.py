"""Makes ``twistd relayx`` known; the code behind it is in relayx.tap."""

from twisted.application.service import ServiceMaker

relayx = ServiceMaker(
    "relayx",
    "relayx.tap",
    "Relay gateway: pairs front ends with back ends that both dial out.",
    "relayx",
)
