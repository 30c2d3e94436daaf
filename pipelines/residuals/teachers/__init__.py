"""Adapters that plug unmodified LeRobot policies in as teachers and students, one file per policy."""
