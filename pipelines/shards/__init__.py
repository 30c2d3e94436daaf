"""Packet shards: encoded access units as rows of an Arrow file, written once and memory-mapped for reading."""
