#!/usr/bin/env python3
"""Checks the rules that a compiler does not: layers, public headers, the source tree's description, scripts, stray paths.

    python3 tests/style/check_style.py [--format] [--program build/release/bin/meed] [ROOT]

Prints one `file:line: problem` a line and exits with 1 if there is any. --program also compares
docs/config_reference.md with what that program describes; --format also runs clang-format over every source.
"""
import argparse
import re
import subprocess
import sys
from pathlib import Path

LIBRARIES = ["libpolicy", "libreward", "algorithms"]
# Costly to parse, or a dependency that a program which links the libraries need not have.
BANNED_IN_HEADERS = re.compile(r"(torch/(torch|all|nn|optim)(\.h|/)|nlohmann/|spdlog/|fmt/|yaml-cpp/|hdf5|H5|CLI/)")
# Anchored so that a relative path, or a path inside a longer one, is not taken for a machine's own.
MACHINE_PATHS = re.compile(r"(?<![\w./}$-])/(work|home/\w+|root|tmp/\w+)/")
REGISTRY_HOSTS = re.compile(r"\b(pypi" r"\.org|pythonhosted" r"\.org|deb\.debian" r"\.org)\b")
INCLUDE = re.compile(r'\s*#\s*include\s*[<"]([^>"]+)[>"]')
TEXT = {".h", ".cpp", ".cu", ".cuh", ".inc", ".inl", ".py", ".sh", ".md", ".txt", ".cmake", ".in", ".yaml", ".json", ".js", ".html", ".css"}


def tracked(root):
    """The project's files: what git knows and what it does not ignore."""
    command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True)
    if listed.returncode != 0:
        print("style: skipped, needs git and a git checkout: " + listed.stderr.strip())
        sys.exit(77)
    return [Path(line) for line in sorted(set(listed.stdout.splitlines())) if (root / line).is_file()]


def is_public_header(path):
    return (path.suffix == ".h" and path.parts[0] in LIBRARIES
            and not {"cli", "cuda"} & set(path.parts))


def check_includes(path, lines):
    top = path.parts[0]
    below = LIBRARIES[LIBRARIES.index(top) + 1:] + ["examples", "tests"] if top in LIBRARIES else []
    for number, line in enumerate(lines, 1):
        found = INCLUDE.match(line)
        if not found:
            continue
        included = found.group(1)
        if included.split("/")[0] in below:
            yield number, f"{top} must not include {included}: includes only go down (docs/source_tree.md)"
        if is_public_header(path) and BANNED_IN_HEADERS.match(included):
            yield number, f"a public header must not include {included}; include it in the .cpp file"
        elif re.match(r"torch/(torch|all)\.h$", included):
            yield number, f"{included} costs ten seconds a file; include what is needed of ATen"
        if path.suffix in {".cu", ".cuh"} and included.split("/")[0] in {"ATen", "torch", "c10"}:
            yield number, f"a CUDA source must not include {included}; take tensors apart in a .cpp file"


def check_text(path, lines):
    if path.parts[:2] == ("tests", "golden") and path.suffix == ".json":
        return
    for number, line in enumerate(lines, 1):
        for pattern, what in ((MACHINE_PATHS, "a path of one machine"), (REGISTRY_HOSTS, "a registry's host")):
            found = pattern.search(line)
            if found:
                yield number, f"{what}: {found.group(0)}"


def check_file(root, path):
    lines = (root / path).read_text(encoding="utf-8", errors="replace").splitlines()
    if path.suffix == ".h" and "#pragma once" not in lines:
        yield 1, "#pragma once is missing"
    if path.suffix in {".h", ".cpp", ".cu", ".cuh"}:
        yield from check_includes(path, lines)
    if path.suffix in TEXT:
        yield from check_text(path, lines)
    if path.suffix == ".sh":
        checked = subprocess.run(["bash", "-n", str(root / path)], capture_output=True, text=True)
        if checked.returncode != 0:
            yield 1, checked.stderr.strip()


def check_source_tree(root, files):
    """docs/source_tree.md names every folder that holds sources, and none that is not there."""
    document = Path("docs/source_tree.md")
    described = {}
    for number, line in enumerate((root / document).read_text().splitlines(), 1):
        if line.startswith("| `"):
            for name in re.findall(r"`([^`]+)`", line.split("|")[1]):
                described[name] = number
    for name, number in described.items():
        if not (root / name).is_dir():
            yield document, number, f"there is no folder {name}"
    folders = {path.parent.as_posix() for path in files if path.suffix in {".h", ".cpp", ".cu"} and path.parts[0] in LIBRARIES}
    folders |= {path.parts[0] for path in files if len(path.parts) > 1 and not path.parts[0].startswith(".")}
    folders -= {"libpolicy"}
    for name in sorted(folders - described.keys()):
        yield document, 1, f"the folder {name} is not described"


def check_reference(root, program):
    document = Path("docs/config_reference.md")
    described = subprocess.run([program, "describe", "--all"], capture_output=True, text=True)
    if described.returncode != 0:
        yield document, 1, f"`meed describe --all` failed: {described.stderr.strip()}"
    elif described.stdout != (root / document).read_text():
        yield document, 1, "is out of date; write it anew: meed describe --all > docs/config_reference.md"


def check_format(root, files):
    for path in files:
        if path.suffix in {".h", ".cpp", ".cu"}:
            checked = subprocess.run(["clang-format", "--dry-run", "-Werror", str(root / path)], capture_output=True, text=True)
            if checked.returncode != 0:
                yield path, 1, "is not formatted; run clang-format -i"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--program")
    parser.add_argument("--format", action="store_true")
    arguments = parser.parse_args()
    root = arguments.root
    files = tracked(root)
    problems = [(path, *problem) for path in files for problem in check_file(root, path)]
    problems += check_source_tree(root, files)
    if arguments.program:
        problems += check_reference(root, arguments.program)
    if arguments.format:
        problems += check_format(root, files)
    for path, number, problem in problems:
        print(f"{path}:{number}: {problem}")
    print(f"style: {len(files)} files, {len(problems)} problems")
    sys.exit(1 if problems else 0)


main()
