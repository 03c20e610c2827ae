"""``python -m benches``: see :mod:`benches.cli`."""

import sys

from benches.cli import main

if __name__ == "__main__":
    sys.exit(main())
