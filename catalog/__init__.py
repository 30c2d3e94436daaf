"""The lake's layout and its Delta tables. The only room that writes tables."""
