"""Everything that touches hosts: SSH, Docker engines, the Swarm, the agents.

Scope: left of the border. Nothing here decodes or compares, and nothing right of the border imports this.
"""
