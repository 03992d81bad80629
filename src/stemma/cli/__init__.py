"""The command ``stemma``."""
