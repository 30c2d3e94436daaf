"""Pure functions on arrays and tables: no files, no network, no models."""
