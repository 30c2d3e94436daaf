"""Where the hand will go: traces in a picture, waypoints in space; where things are: points and boxes. Refused where nothing is known."""
