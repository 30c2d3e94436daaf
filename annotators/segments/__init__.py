"""Segments: where one movement ends and the next begins, and what each is."""
