#!/usr/bin/env python3
"""Checks that the documents contain the examples of this directory unchanged."""

import pathlib
import sys

from checks import check

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Each example, its language, and the document that shows it.
EXAMPLES = [
    ("example.py", "python", "README.md"),
    ("example.mjs", "js", "docs/CALLING.md"),
    ("recall.py", "python", "docs/CALLING.md"),
]


def main():
    """Searches each example in its document."""
    for name, language, document in EXAMPLES:
        shown = (ROOT / document).read_text(encoding="utf-8")
        block = f"```{language}\n{(HERE / name).read_text(encoding='utf-8')}```\n"
        check(f"{document} contains {name} unchanged", shown.count(block), 1)


if __name__ == "__main__":
    if len(sys.argv) != 1:
        sys.exit("usage: documented.py")
    main()
