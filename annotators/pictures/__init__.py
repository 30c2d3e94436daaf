"""How good pictures are, judged without a model."""
