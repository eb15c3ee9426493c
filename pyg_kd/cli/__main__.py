"""``python -m pyg_kd.cli``."""

import sys

from pyg_kd.cli import main

sys.exit(main())
