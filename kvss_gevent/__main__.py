"""`python -m kvss_gevent` is `kvss`."""

import sys

from kvss_gevent.cli import main

sys.exit(main())
