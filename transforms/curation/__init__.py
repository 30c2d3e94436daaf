"""Formulas of curation: quality scores, known defects and near-duplicates. No file is opened here."""
