"""Attempt trees in a lake: where they come from, where they are kept, and what is exported of them."""
