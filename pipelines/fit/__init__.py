"""Fitters: small models trained on a lake's own episodes that say what to draw more of. They write scores or shares, never data."""
