#!/usr/bin/env python3
"""The licences of every crate in the tree, with all features, for tests and on all platforms too.

    python3 tests/licences.py

The crate is under MIT or Apache-2.0, at the user's choice. So each crate of the tree must be usable under terms that go
with MIT, or be one of those below, which README.md names with the feature that brings it.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Terms that ask for nothing but that a notice is kept, or for less.
GO_WITH_MIT = {"MIT", "ISC", "Unlicense", "Zlib", "0BSD", "BSD-2-Clause", "BSD-3-Clause", "Unicode-3.0"}

# Under Apache-2.0, at nobody's choice, and why they are here all the same: Cargo.toml and README.md say it.
SAID = {"command-fds": "Apache-2.0", "listenfd": "Apache-2.0", "ring": "Apache-2.0 AND ISC"}


def goes_with_mit(expression):
    """Whether one of the alternatives of an SPDX expression has only terms that go with MIT."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def alternatives():
        found = conjunction()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            found |= conjunction()  # Both sides are read.
        return found

    def conjunction():
        found = term()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            found &= term()
        return found

    def term():
        name = tokens.pop(0)
        if name == "(":
            found = alternatives()
            tokens.pop(0)
            return found
        if tokens and tokens[0] == "WITH":
            del tokens[:2]
        return name in GO_WITH_MIT

    return alternatives()


def check_the_check():
    for expression, expected in [
        ("MIT", True), ("MIT/Apache-2.0", True), ("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", True),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", True), ("Apache-2.0", False), ("MIT AND GPL-3.0-only", False),
        ("MPL-2.0", False), ("Apache-2.0 AND (MIT OR ISC)", False), ("GPL-2.0-only OR (Apache-2.0 AND MIT)", False),
    ]:
        if goes_with_mit(expression) != expected:
            sys.exit(f"{expression!r} is read wrongly")


def main():
    check_the_check()
    command = ["cargo", "metadata", "--format-version", "1", "--all-features", "--locked"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    ours = set(metadata["workspace_members"])
    crates = [crate for crate in metadata["packages"] if crate["id"] not in ours]
    by_licence = collections.defaultdict(list)
    wrong = []
    for crate in crates:
        licence = crate["license"] or "no licence stated"
        by_licence[licence].append(crate["name"])
        if not goes_with_mit(licence) and SAID.get(crate["name"]) != licence:
            wrong.append(f"{crate['name']} {crate['version']} is under {licence}: replace it, or say it")
    for licence, names in sorted(by_licence.items()):
        print(f"{licence}: {', '.join(sorted(names))}")
    section = (ROOT / "README.md").read_text().split("## Licence")[1]
    there = {crate["name"] for crate in crates}
    for name in SAID:
        if name not in there:
            wrong.append(f"{name} is in the tree no more, and still in the list of tests/licences.py")
        if f"`{name}`" not in section:
            wrong.append(f"README.md does not say of {name} what it is under")
    print(f"{len(crates) - len(wrong)} passed, {len(wrong)} failed")
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main()
