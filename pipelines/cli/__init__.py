"""The `cotrain` command. Importing it is cheap: every command imports what it needs when it runs."""

from pipelines.cli.app import main

__all__ = ["main"]
