"""Controllers: from real actions to latent actions and back, so that a world model of latents can be driven, and latents executed."""
