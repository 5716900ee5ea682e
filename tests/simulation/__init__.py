"""A small data centre in which things break, and the real engine that is to deal with it.

Every run follows from its seed. What breaks follows physics and is drawn from no rule file; after
every step the oracles ask whether an invariant of the action contract was broken. Run it with
``python -m tests.simulation``.
"""
