"""Records demonstrations in simulators: scripted experts, rendered cameras, labels and privileged state, as folders on disk."""
