"""Starts the laboratory's command; see cli.py."""

import sys

from loadtest.compare.cli import main

sys.exit(main())
