"""Depth tokens: a hundred codes per depth picture, from a small autoencoder trained on the user's own depth. Depth is never made up."""
