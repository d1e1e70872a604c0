"""Keys, names, profiles, certificates, CRLs and OCSP: what is signed and how it is encoded.

No store and no policy: a caller has decided already, and records what comes back. Import the
module that is needed (``node_agent.pki.issue``); this package imports nothing by itself, so that
a signing worker process starts without the rest of the agent.
"""
