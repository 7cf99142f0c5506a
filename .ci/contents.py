"""What a wheel and a source archive hold: all that is needed, and nothing else.

contents.py WHEEL ARCHIVE
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 2 << 20  # of a wheel without the demo model
BELONGS = re.compile(
    r"fastrnn/([a-z_]+/){0,2}\w+\.(py|pyi|pyx|pxd|pxi)|fastrnn/_core\.[\w-]+\.so|fastrnn/py\.typed"
    r"|fastrnn/data/[\w-]+\.pt|fastrnn-[\d.]+\.dist-info/.*"
)


def check_wheel(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        files = {entry.filename: entry.compress_size for entry in archive.infolist()}
    model = sum(size for name, size in files.items() if name.startswith("fastrnn/data/"))
    size = path.stat().st_size - model
    print(f"{path.name}: {len(files)} files, {size / 1024:.0f} KiB, model {model / 1024:.0f} KiB")
    found = [f"{name} should not be in a wheel" for name in files if not BELONGS.fullmatch(name)]
    if size > MOST_BYTES:
        found.append(f"the wheel has {size} bytes, at most {MOST_BYTES} are expected")
    wanted = {str(source.relative_to(ROOT)) for source in (ROOT / "fastrnn").rglob("*.py")}
    wanted |= {"fastrnn/py.typed", "fastrnn/_core.pyi"}
    return found + [f"{name} is missing in the wheel" for name in sorted(wanted - set(files))]


def check_archive(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    print(f"{path.name}: {len(names)} files, {path.stat().st_size / 1024:.0f} KiB")
    wanted = {
        str(source.relative_to(ROOT))
        for folder in ("src_c", "fastrnn")
        for source in (ROOT / folder).rglob("*.*")
        if source.suffix in (".c", ".h", ".inc", ".def", ".py", ".pyx", ".pxd", ".pxi")
        and source.parent.name != "tools"  # not part of the build
    } - {"fastrnn/_core.c"}
    wanted |= {"LICENSE", "README.md", "pyproject.toml", "setup.py"}
    return [f"{name} is missing in the source archive" for name in sorted(wanted - names)]


def main() -> int:
    wheel, archive = map(Path, sys.argv[1:])
    found = check_wheel(wheel) + check_archive(archive)
    print("\n".join(found) or "contents are complete")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
