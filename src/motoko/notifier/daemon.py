"""The notifier's process: ``python -m motoko.notifier.daemon WORKFLOW_DIRECTORY``.

Orchestrators start it if ``motoko.yaml`` has ``notify:``. It exits when nothing is left to watch
and to send, or on TERM. It needs neither orchestrator, launcher nor server, so it outlives them.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Final

from motoko.errors import MotokoError
from motoko.runtime.logs import log_to_stderr
from motoko.runtime.ports import SYSTEM
from motoko.runtime.signals import reset_all

START_SECONDS: Final = 2.0  # in which orchestrator and launcher start; the imports take a core

# Not __name__: this module runs as __main__.
log = logging.getLogger("motoko.notifier.daemon")


def main(directory: Path) -> int:
    """Run the notifier of the workflow in ``directory``; return the exit status."""
    SYSTEM.clock.sleep(START_SECONDS)
    from motoko.notifier.service import serve

    reset_all()
    log_to_stderr()
    os.umask(0o077)
    try:
        serve(directory)
    except (MotokoError, OSError) as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
