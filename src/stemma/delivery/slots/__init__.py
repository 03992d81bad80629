"""Slots: a version made ready, started, watched and stopped."""
