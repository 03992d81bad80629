"""Measurements: a user's tasks end to end, side by side with a named baseline."""
