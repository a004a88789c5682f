"""What is measured of swarmscope itself: ``invoke bench WHAT`` runs one of these and prints ratios.

Scope: each bench is a module here; the verb is in ``verbs.bench``. This package may use every other one but
``verbs``, and nothing but ``verbs`` uses it.
"""
