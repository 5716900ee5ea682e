"""Carrying out actions: what a consumer owes them, its memory, and a client library around both."""
