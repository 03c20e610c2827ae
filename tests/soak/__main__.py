"""`python -m soak`, with `tests` on the path."""

import sys

from soak.cli import main

sys.exit(main())
