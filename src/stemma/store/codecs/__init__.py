"""Codecs of tensor blocks: from raw bytes to fewer bytes and back, bit for bit."""
