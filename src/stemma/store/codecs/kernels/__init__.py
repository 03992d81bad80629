"""The loops of the codecs, in numpy and, where a compiler was at hand, in C."""
