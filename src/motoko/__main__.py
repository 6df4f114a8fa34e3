"""``python -m motoko`` is the command ``motoko``."""

from __future__ import annotations

import sys

from motoko.cli import main

if __name__ == "__main__":
    sys.exit(main())
