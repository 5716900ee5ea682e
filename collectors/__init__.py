"""Collectors: what turns readings of the world into inputs of the log.

A source is one file with one async generator of inputs (`collectors.source` says what it promises);
`collectors.runner` runs the sources of a host. A new source is a file here, its options, and a line
in `collectors.config`.
"""
