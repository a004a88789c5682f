"""A run, from plan to raw artifacts: lock, prepare, arm, fire, traffic, stop, pack, pull.

Left of the border: this package touches hosts and never reads what was recorded.
"""
