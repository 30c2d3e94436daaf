"""Annotators: a table in, a table out, ids unchanged. They never see the catalog."""
