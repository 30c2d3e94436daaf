"""One verifier per file: a draft and what is known in, a verdict out. No verifier trusts the generator it judges."""
