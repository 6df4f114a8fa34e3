"""``python -m motoko`` executes the command ``motoko``."""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the current directory, whose files may shadow modules

from motoko.cli import main

if __name__ == "__main__":
    sys.exit(main())
