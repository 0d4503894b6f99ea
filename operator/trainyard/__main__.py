"""`python -m trainyard`: the same as the `trainyard` command."""

from trainyard.cli.main import main

main()
