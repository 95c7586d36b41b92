"""``python -m pyg_kgrec``: the command, where it is not on the path."""

import sys

from pyg_kgrec.cli import main

sys.exit(main())
