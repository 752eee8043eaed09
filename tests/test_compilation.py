"""Machine code that is kept must be that of the source files."""

import os
import subprocess
import sys

IMPORT = "from ztf_sg.compilation import compiled\n"
CALLER = IMPORT + "from inner import add\n@compiled\ndef twice(x):\n    return 2 * add(x)\n"
CALLEE = IMPORT + "@compiled\ndef add(x):\n    return x + {}\n"


def test_a_change_of_a_function_that_is_called_from_another_file_is_seen(tmp_path):
    (tmp_path / "caller.py").write_text(CALLER)
    for number in (1, 20):
        (tmp_path / "inner.py").write_text(CALLEE.format(number))
        code = "import caller; print(caller.twice(1.0))"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        assert float(done.stdout) == 2 * (1 + number)
