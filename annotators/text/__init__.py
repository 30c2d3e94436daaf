"""Texts about episodes: generators from known state, verifiers that keep or refuse them, a model behind one client."""
