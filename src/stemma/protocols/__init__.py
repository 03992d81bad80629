"""Foreign protocols: unmodified clients of others, answered from our records."""
