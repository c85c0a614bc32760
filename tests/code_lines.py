"""code_lines.py [FOLDER]: lines of code under FOLDER (default src and build.rs), without blanks, comments and tests.

Tests are modules under `#[cfg(test)]` and files named tests.rs. Also prints the longest functions. Needs Python alone.
"""

import re
import sys
from pathlib import Path

COMMENT = re.compile(r"^\s*//")
FUNCTION = re.compile(r"^(\s*)(?:pub(?:\([^)]*\))?\s+)?(?:const\s+|unsafe\s+|extern\s+\"C\"\s+)*fn\s+(\w+)")


def without_tests(lines):
    """The lines without modules under `#[cfg(test)]`: up to the brace that closes them at the same depth."""
    kept, at = [], 0
    while at < len(lines):
        if lines[at].strip() == "#[cfg(test)]":
            indent = len(lines[at]) - len(lines[at].lstrip())
            at += 1
            if not lines[at].rstrip().endswith(";"):
                while lines[at].rstrip() != " " * indent + "}":
                    at += 1
            at += 1
            continue
        kept.append(lines[at])
        at += 1
    return kept


def code(path):
    lines = without_tests(path.read_text().splitlines())
    return [line for line in lines if line.strip() and not COMMENT.match(line)]


def functions(path):
    """Each function with its number of lines of code, as rustfmt lays them out."""
    lines = code(path)
    for at, line in enumerate(lines):
        found = FUNCTION.match(line)
        if found and not line.rstrip().endswith(";"):
            end = next((k for k in range(at, len(lines)) if lines[k].rstrip() == found.group(1) + "}"), at)
            yield end - at + 1, f"{path}: {found.group(2)}"


def main():
    folders = [Path(argument) for argument in sys.argv[1:]] or [Path("src"), Path("build.rs")]
    files = [file for folder in folders for file in ([folder] if folder.is_file() else sorted(folder.rglob("*.rs")))]
    files = [file for file in files if file.name != "tests.rs"]
    by_module = {}
    for file in files:
        module = file.parts[1].removesuffix(".rs") if len(file.parts) > 1 else file.name
        by_module[module] = by_module.get(module, 0) + len(code(file))
    for module, count in sorted(by_module.items(), key=lambda item: -item[1]):
        print(f"{count:6} {module}")
    print(f"{sum(by_module.values()):6} in all")
    for count, name in sorted((entry for file in files for entry in functions(file)), reverse=True)[:8]:
        print(f"{count:6} lines: {name}")


if __name__ == "__main__":
    main()
