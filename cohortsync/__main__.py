"""``python -m cohortsync`` is the command line."""

from cohortsync.cli import main

main()
