"""Mixtures: a spec compiled against the catalog into a pinned, replayable order of samples."""
