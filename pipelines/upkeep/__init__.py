"""Upkeep of a lake: what must stay, what may go, where things came from."""
