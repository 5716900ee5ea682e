"""The nouns and wire contracts of Firstfault: frozen, versioned, documented; nothing but data."""
