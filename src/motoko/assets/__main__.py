"""``python -m motoko.assets`` is the command ``motoko assets``."""

from __future__ import annotations

from motoko.assets import main

if __name__ == "__main__":
    main()
