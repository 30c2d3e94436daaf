"""Instructions as words: their grammar, paraphrases of them and how far those are, sequences of acts and their constraints."""
