"""Minimal-change triplets: a picture, what was done, and the picture afterwards."""
