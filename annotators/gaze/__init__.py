"""Where somebody looks: recorded gaze on the pictures' clock, gaze a network predicts, and what a robot's intent would have looked at."""
