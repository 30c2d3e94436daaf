"""How work is shown to people and programs: progress on stderr, results on stdout. Shared by the commands and the demo."""
