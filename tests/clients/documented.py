#!/usr/bin/env python3
"""Checks that the documents contain the examples of this directory unchanged."""

import pathlib
import sys

from checks import check

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
EXAMPLES = {"example.py": "python", "example.mjs": "js"}
DOCUMENTS = ["README.md", "docs/CALLING.md"]


def main():
    """Searches each example in each document."""
    for document in DOCUMENTS:
        shown = (ROOT / document).read_text(encoding="utf-8")
        for name, language in EXAMPLES.items():
            block = f"```{language}\n{(HERE / name).read_text(encoding='utf-8')}```\n"
            check(f"{document} contains {name} unchanged", shown.count(block), 1)


if __name__ == "__main__":
    if len(sys.argv) != 1:
        sys.exit("usage: documented.py")
    main()
