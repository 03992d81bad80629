"""The way back: rollbacks, and drills of them."""
