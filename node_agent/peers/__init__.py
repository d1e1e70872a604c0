"""Peers: who is linked with us, what is asked of them and by them, and the one decision."""
