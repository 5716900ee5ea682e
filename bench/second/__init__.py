"""A second generator of storms, written from physics alone and blind to the rules.

What works follows from what is broken and what it stands on (`physics.py`); each observer tells
what it can see through the networks that still work (`observers.py`), in its own time
(`speech.py`); the way to the log loses, delays and doubles (`noise.py`). No list says which fault
shows which symptom.
"""
