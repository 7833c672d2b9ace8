"""In CI a skip is a failure, by whatever way it comes; elsewhere it is a skip."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SKIPS = {
    "mark": "import pytest\n@pytest.mark.skip(reason='why')\ndef test(): pass\n",
    "condition": "import pytest\n@pytest.mark.skipif(True, reason='why')\ndef test(): pass\n",
    "call": "import pytest\ndef test(): pytest.skip('why')\n",
    "fixture": "import pytest\n@pytest.fixture\ndef no(): pytest.skip('why')\ndef test(no): pass\n",
    "empty": "import pytest\n@pytest.mark.parametrize('n', [])\ndef test(n): pass\n",
    "import_inside": "import pytest\ndef test(): pytest.importorskip('no_such_module')\n",
    "module": "import pytest\npytest.skip('why', allow_module_level=True)\n",
    "module_mark": "import pytest\npytestmark = pytest.mark.skip(reason='why')\ndef test(): pass\n",
    "import_at_top": "import pytest\npytest.importorskip('no_such_module')\ndef test(): pass\n",
    "unittest": "import unittest\nraise unittest.SkipTest('why')\n",
}


def outcomes(folder: Path, ci: str) -> dict[str, int]:
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    for name, text in SKIPS.items():
        (folder / f"test_{name}.py").write_text(text)
    (folder / "test_expected.py").write_text("import pytest\n@pytest.mark.xfail\ndef test(): assert False\n")
    words = ("-p", "no:cacheprovider", "--continue-on-collection-errors", "--rootdir", str(folder))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *words, str(folder)],
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
    )
    *_, last = done.stdout.strip().splitlines()
    return {kind.rstrip("s"): int(count) for count, kind in re.findall(r"(\d+) (\w+)", last)}


@pytest.mark.parametrize("ci", ["true", ""])
def test_skips(ci: str, tmp_path: Path) -> None:
    found = outcomes(tmp_path, ci)
    refused = found.get("failed", 0) + found.get("error", 0)
    assert (refused, found.get("skipped", 0)) == ((len(SKIPS), 0) if ci else (0, len(SKIPS)))
    assert found["xfailed"] == 1
