"""Latent actions: what changes between two pictures, as a few numbers or codes, learnt from pictures alone."""
