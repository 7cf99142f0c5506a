#!/usr/bin/env bash
# A source archive, a wheel from it, and the wheel in an empty environment and an empty folder.
#
#     wheel.sh FOLDER      needs `python -m build`
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1
mkdir -p "$folder/nothing"

python -m build --outdir "$folder/dist" . >"$folder/build.log" 2>&1 || {
    tail -50 "$folder/build.log"
    exit 1
}
python .ci/contents.py "$folder"/dist/*.whl "$folder"/dist/*.tar.gz

python3 -m venv "$folder/empty"
"$folder/empty/bin/pip" -q install "$folder"/dist/*.whl
cd "$folder/nothing"
"$folder/empty/bin/pip" list
"$folder/empty/bin/python" - <<'PYTHON'
import numpy as np
import fastrnn

y, (h, c) = fastrnn.LSTM(3, 5)(np.zeros((7, 2, 3), np.float32))
assert y.shape == (7, 2, 5) and h.shape == c.shape == (1, 2, 5)
print(fastrnn.show_config())
PYTHON
"$folder/empty/bin/fastrnn" --help
"$folder/empty/bin/fastrnn" demo
[[ -z $(ls -A) ]] || { echo "files were left behind:"; ls -lA; exit 1; }

"$folder/empty/bin/python" - <<'PYTHON'
import subprocess
import sys
from time import perf_counter


def milliseconds(code: str) -> float:
    best = float("inf")
    for _ in range(7):
        start = perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        best = min(best, perf_counter() - start)
    return 1000 * best


alone, numpy, fastrnn = map(milliseconds, ("pass", "import numpy", "import fastrnn"))
print(f"import: numpy {numpy - alone:.0f} ms, fastrnn {fastrnn - numpy:.0f} ms more")
PYTHON
