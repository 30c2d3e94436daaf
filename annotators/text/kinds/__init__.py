"""One generator per kind of text: a scene in, drafts out, or the reason why there are none."""
