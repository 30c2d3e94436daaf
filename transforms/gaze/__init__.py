"""Arithmetic of gaze: directions and depths, fixations, maps and tokens, moves of pictures, and how good a map is."""
