"""Views of the attempt tree: pure functions from nodes to training records. Nothing here reads files or judges anything."""
