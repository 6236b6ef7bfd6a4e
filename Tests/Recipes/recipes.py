#!/usr/bin/env python3
"""The recipes of docs/RECIPES.md, each as far as it works without the program that it names."""

import os
import pathlib
import sys
import tempfile

sys.dont_write_bytecode = True
CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
for folder in ("Tests/Commands", "Tests/Programs"):
    sys.path.insert(0, str(CHECKOUT / folder))

import harness  # noqa: E402
from support import namespace  # noqa: E402

import container_recipes  # noqa: E402,F401
import systemd_recipe  # noqa: E402,F401


def main():
    namespace.enter()
    with tempfile.TemporaryDirectory(prefix="skein-recipes-") as folder:
        os.chmod(folder, 0o755)
        return harness.run_all(pathlib.Path(folder))


if __name__ == "__main__":
    sys.exit(main())
