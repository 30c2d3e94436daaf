"""From a mixture or a dataset to training samples: windows in seconds, LeRobot's names, decoded from packet shards."""
