"""Stemma versions AI models end to end; ``import stemma`` gives the seven SDK names."""
