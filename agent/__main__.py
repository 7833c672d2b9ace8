"""`python -m pymirror.agent`."""

from __future__ import annotations

import sys

from pymirror.agent.main import main

if __name__ == "__main__":
    sys.exit(main())
