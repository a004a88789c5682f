"""From raw artifacts to tables: decode, align clocks, name roles, attribute events to packets.

Pure and offline: everything here works from a run's directory with no host, no root and no network.
``tables.build`` is the entrance; ``schema`` defines what comes out.
"""
