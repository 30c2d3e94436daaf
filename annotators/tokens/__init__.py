"""Action tokens: chunks of actions as bins, FAST tokens or spline points, with the tokenizer that turns them back."""
