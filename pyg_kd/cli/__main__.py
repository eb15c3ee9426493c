"""``python -m pyg_kd.cli``."""

import sys

from pyg_kd.cli import main

if __name__ == "__main__":
    sys.exit(main())
