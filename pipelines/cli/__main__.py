"""`python -m pipelines.cli`: the same as the `cotrain` command."""

from pipelines.cli.app import main

main()
