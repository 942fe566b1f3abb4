"""Starts the laboratory's command; see cli.py."""

import sys

from kvss_gevent.compare.cli import main

sys.exit(main())
