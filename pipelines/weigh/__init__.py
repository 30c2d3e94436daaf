"""Density ratios between selections of episodes, written as scores that mixtures weigh by."""
