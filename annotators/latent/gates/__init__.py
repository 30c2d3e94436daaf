"""Gates of latent actions: does a latent say what the agent did, or only how to paint the next picture? Any latent can be judged."""
