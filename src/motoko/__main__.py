"""``python -m motoko`` is the command ``motoko``."""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the current directory, in which files may have any name

from motoko.cli import main

if __name__ == "__main__":
    sys.exit(main())
