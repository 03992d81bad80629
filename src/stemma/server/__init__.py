"""Composition root: the only place that says which class implements what."""
