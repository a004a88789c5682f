"""The answer for people: a few lines on a terminal (``terminal``) and one self-contained page (``page``).

Scope: wording and drawing of a finished :class:`swarmscope.compare.Comparison`; no number is made here.
"""
