"""Formulas of curation: quality scores, near-duplicates, splits and their honest evaluation. No file is opened here."""
