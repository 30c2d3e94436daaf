"""Language motions: what the robot does next, as a code and as words."""
