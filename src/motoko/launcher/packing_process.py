"""The process that packs directories for a launcher, which meanwhile executes runs.

The launcher holds the lock of the packs, and each request passes it on: no other process writes
packs until both have released it. This process exits with the launcher, and a kill at any point
loses nothing.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Final

from motoko.launcher.directory_packing import EndedRun, pack_directories
from motoko.runtime import helper_process

NICENESS: Final = 5


def main() -> None:
    """Pack the directories that each request names, until the launcher ends this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher decides when to stop
    os.nice(NICENESS)
    for request in helper_process.requests():
        root, runs = json.loads(request.text)
        try:
            answer: object = pack_directories(root, [EndedRun(*run) for run in runs])
        except OSError as error:
            answer = str(error)
        finally:
            for descriptor in request.descriptors:
                os.close(descriptor)
        helper_process.reply(json.dumps(answer))


if __name__ == "__main__":
    main()
