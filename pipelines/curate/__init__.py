"""Curation: scores of every episode, near-duplicates, splits, and the decisions made from them."""
