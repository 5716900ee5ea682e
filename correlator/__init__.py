"""The correlator: a pure engine that folds a log into incidents, and its shells."""
