"""Labs: hosts that swarmscope raises itself on this machine.

``namespaces`` raises and removes them; ``record`` is what a lab leaves on disk, so that it can be
removed after any crash. Everything here runs as root; ``privileges`` gets there through sudo.
"""
