"""Decoders behind one Protocol: packets of a track in, RGB pictures in the caller's memory out."""
