"""``python -m massive_lab`` is ``massive-lab``."""

from __future__ import annotations

import sys

from massive_lab.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
