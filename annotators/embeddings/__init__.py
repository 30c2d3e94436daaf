"""Embeddings of pictures and texts: vectors that a memory can be asked with."""
