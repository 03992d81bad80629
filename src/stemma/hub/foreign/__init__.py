"""Other people's servers: what is imported from them and exported to them.

A module here speaks somebody else's protocol as a client; it needs none of their packages.
"""
