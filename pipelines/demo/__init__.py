"""The demo: the main job, end to end, on real data where there is some and on data it makes where there is none."""
