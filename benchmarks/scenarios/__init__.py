"""One module per scenario; each has ``run() -> dict`` of figures."""
