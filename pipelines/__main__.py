"""``python -m pipelines`` is ``cidermill``."""

import sys

from pipelines.cli import main

sys.exit(main())
