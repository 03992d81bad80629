"""Meaning: pure values and decisions; no I/O, no clock, no framework."""
