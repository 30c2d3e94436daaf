"""Macro latents: latent actions of longer stretches, made of those of short ones."""
