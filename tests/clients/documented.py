#!/usr/bin/env python3
"""Checks that docs/CALLING.md shows the examples of this directory as they are run, every line."""

import pathlib
import sys

from checks import check

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLES = {"example.py": "python", "example.mjs": "js"}


def main():
    """Looks for each example."""
    shown = (HERE.parent.parent / "docs" / "CALLING.md").read_text(encoding="utf-8")
    for name, language in EXAMPLES.items():
        block = f"```{language}\n{(HERE / name).read_text(encoding='utf-8')}```\n"
        check(f"docs/CALLING.md shows {name} as it is", shown.count(block), 1)


if __name__ == "__main__":
    if len(sys.argv) != 1:
        sys.exit("usage: documented.py")
    main()
