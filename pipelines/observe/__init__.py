"""What a run shows while it goes on and afterwards: log lines, live progress, metrics, a view in the terminal."""
