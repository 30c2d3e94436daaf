"""The work itself: record, ingest, annotate, mix, export, verify, load, and the command line."""
