"""`python -m pymirror.agent`."""

from __future__ import annotations

import logging
import os
import sys

from pymirror.agent.main import main

if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    # Not sys.exit: it would join the threads of pools, and one may wait for a disk that never answers.
    os._exit(status)
