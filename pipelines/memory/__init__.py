"""Embedding memories: vectors of a lake with what they stand for, searched exactly."""
