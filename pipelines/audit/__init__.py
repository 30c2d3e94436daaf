"""Audits: what a selection teaches and what it cannot, measured with nulls and intervals and written to an append-only ledger."""
