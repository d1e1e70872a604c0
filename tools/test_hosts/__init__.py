"""Real Debian hosts, in zones with a router between them, inside this one machine.

``python -m tools.test_hosts up -i inventories/three_tier`` boots every host of an inventory with
its own systemd, sshd, nftables and address; ``down`` removes every trace. Playbooks see these hosts
as they see a user's: the shipped inventory stays as it is, a second one says how to log in.

The hosts live in network namespaces of their own. Nothing there reaches the machine's networks, and
the machine's networks may use the same addresses.
"""
