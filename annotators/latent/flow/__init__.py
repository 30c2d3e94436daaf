"""Latent actions without training: optical flow, described in a few numbers. What a learned latent must beat."""
