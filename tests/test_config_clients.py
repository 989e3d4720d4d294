"""The entries of ``clients`` in the configuration."""

from __future__ import annotations

from relayx.config.keys import COUNT_MOST
from relayx.config.model import ClientPolicy
from relayx.security import secrethash
from tests.config_files import Files


class Clients(Files):
    """A list of mappings, each checked key by key."""

    def test_read(self) -> None:
        config = self.load(
            {
                "clients": [
                    {"match": "cam-*", "roles": ["BE"], "protocols": ["srt"], "bandwidth": "20M"},
                    {"match": "*", "max_leases": 4},
                ]
            }
        ).config
        cam, rest = config.clients
        self.assertEqual(
            cam, ClientPolicy("cam-*", roles=("BE",), protocols=("srt",), bandwidth=20_000_000)
        )
        self.assertEqual((rest.roles, rest.max_leases), (("FE", "BE"), 4))
        self.assertEqual(cam.max_leases, COUNT_MOST)

    def test_rates(self) -> None:
        for text, bits in (("500k", 500_000), ("1.5G", 1_500_000_000), (8000, 8000), ("0", 0)):
            config = self.load({"clients": [{"match": "a", "bandwidth": text}]}).config
            self.assertEqual(config.clients[0].bandwidth, bits)
        for text in ("fast", "20m", "-1", -1, "1.5.5", "2000G", 1.5, None):
            fault = self.fault({"clients": [{"match": "a", "bandwidth": text}]})
            self.assertEqual(fault.key, "clients[0].bandwidth")
            self.assertIn("20M", fault.allowed)

    def test_faults_name_the_entry(self) -> None:
        faults = self.faults(
            {
                "clients": [
                    {"roles": ["FE"]},
                    {"match": "a", "roles": ["XE"], "colour": 1},
                    "text",
                    {"match": 5, "max_leases": 0},
                ]
            }
        )
        self.assertEqual(
            [fault.key for fault in faults],
            [
                "clients[0].match", "clients[1].colour", "clients[1].roles[0]", "clients[2]",
                "clients[3].match", "clients[3].max_leases",
            ],
        )  # fmt: skip
        self.assertIn("FE | BE", str(faults[2]))
        self.assertIn("is not a list", str(self.fault({"clients": {"match": "a"}})))
        self.assertEqual(self.load("clients:").config.clients, ())

    def test_rules(self) -> None:
        """All at once, whatever else is wrong."""
        made = str(secrethash.make("own secret"))
        faults = self.faults(
            {
                "clients": [
                    {"match": ""},
                    {"match": "a", "roles": [], "protocols": []},
                    {"match": "b\x07"},
                    {"match": "c" * 129},
                    {"match": "a", "secret_hash": "scrypt$1$2$3$c2VjcmV0$x"},
                    {"match": "good", "secret_hash": made},
                ]
            }
        )
        self.assertEqual(
            [fault.key for fault in faults],
            [
                "clients[0].match", "clients[1].roles", "clients[1].protocols",
                "clients[2].match", "clients[3].match", "clients[4].match",
                "clients[4].secret_hash",
            ],
        )  # fmt: skip
        self.assertIn("clients[1]", str(faults[5]))
        self.assertNotIn("c2VjcmV0", str(faults[6]))

    def test_rules_beside_a_broken_key(self) -> None:
        """A pattern that could not be read is not reported as empty too."""
        faults = self.faults({"clients": [{"match": 5}, {"match": "a", "roles": []}]})
        self.assertEqual([fault.key for fault in faults], ["clients[0].match", "clients[1].roles"])
