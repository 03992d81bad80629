"""Serving, rolling out and rolling back: what moves traffic."""
