"""``python -m benches``: see :mod:`benches.cli`."""

import sys

from benches.cli import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing was written")
