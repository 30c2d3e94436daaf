"""Teacher residual caches: what a privileged teacher knows beyond the student, computed once per draw and stored under a key."""
