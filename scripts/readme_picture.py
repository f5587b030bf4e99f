"""Draw docs/readme.png by running the first Python example of the README as it stands there."""

import contextlib
import pathlib
import re
import shutil
import tempfile

import quenched as qn

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main():
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), qn.plotting.style("screen"):
        exec(compile(example, "README.md", "exec"), {})
        shutil.copy("curve.png", ROOT / "docs" / "readme.png")
    print(ROOT / "docs" / "readme.png")


if __name__ == "__main__":
    main()
