"""The HTML report: one self-contained page that shows what is in a lake and what was made from it."""
