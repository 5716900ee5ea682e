"""Actuators: what carries out actions, and proves what it has done.

A verb is one file with one async function (`actuators.verb` says what it promises);
`actuators.runner` reads the actions, asks the gate, and answers. A new verb is a file here, its
options, and a line in `actuators.config`.
"""
