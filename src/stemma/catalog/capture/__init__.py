"""Turns code, data, environments and artifacts into components."""
