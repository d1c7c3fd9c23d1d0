"""Wheels for a GPU machine without a network: `python -m benchmarks.gpu.gather --help`."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.__main__ import PARTS, SUITE

DESCRIPTION = """\
Fetch the wheels that ldl and its tests need on a GPU machine without a network, for that machine's
Python, and print the commands to be typed there. What it has already is named by --has. CuPy,
CUDA's libraries, PyTorch and JAX are too large to be carried: it must have them."""

EPILOG = """\
example:
  python3 -m pip list > has.txt                        there, or as its owner lists its packages
  python -m benchmarks.gpu.gather --to wheels --has has.txt"""

WANTED = {
    "nvmath-python": "nvmath-python>=1.0",
    "cuda-core": "cuda-core",
    "cuda-bindings": "cuda-bindings=={cuda}.*",
    "cuda-pathfinder": "cuda-pathfinder",
    "safetensors": "safetensors>=0.5",
    "pytest": "pytest>=8",
    "pytest-benchmark": "pytest-benchmark>=5",
    "py-cpuinfo": "py-cpuinfo",
    "iniconfig": "iniconfig",
    "packaging": "packaging",
    "pluggy": "pluggy",
    "pygments": "pygments",
}
"""Packages, and what pip is asked for; their own needs are among them."""

SITE = "/tmp/ldl-site"
VISITS = (("check", "tests"), ("headline",), ("floors", "epochs"), ("extras",), ("kernels",))
"""Commands that are typed together."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu.gather",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--to", type=Path, default=Path("wheels"), metavar="FOLDER")
    made.add_argument("--python", default="3.12", help="of that machine (default %(default)s)")
    made.add_argument("--cuda", default="13", help="its CUDA's first number (default %(default)s)")
    made.add_argument("--machine", default="x86_64", help="its processor (default %(default)s)")
    made.add_argument("--has", type=Path, metavar="FILE", help="its `pip list`, or `pip freeze`")
    made.add_argument(
        "--most", type=float, default=48.0, help="MiB that can be carried (default %(default)g)"
    )
    return made


def names(text: str) -> set[str]:
    """The packages of a `pip list` or a `pip freeze`, as pip writes them in lower case."""
    words = re.findall(r"^\s*([A-Za-z0-9][\w.-]*)", text, flags=re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", word).lower() for word in words}


def commands(folder: Path) -> list[str]:
    """What is to be typed on that machine, in the folder of the sources, one line after another."""
    wheels = folder.as_posix()
    bring = f"[ -d {SITE} ] || python3 -m pip install -q --no-index --no-deps --target {SITE}"
    path = f"PYTHONPATH=.:backends:{SITE}${{PYTHONPATH:+:$PYTHONPATH}}"
    found = []
    for several in VISITS:
        minutes = min(SUITE.most, sum(PARTS[name].minutes for name in several))
        does = f"python3 -m benchmarks.gpu {' '.join(several)} --minutes {minutes:g}"
        found.append(f'{{ {bring} {wheels}/*.whl; }} && {path} {does} --out "${{OUT:-runs/gpu}}"')
    return found


def main(argv: list[str] | None = None) -> int:
    """Fetch, weigh and print."""
    arguments = parser()
    args = arguments.parse_args(argv)
    has = names(args.has.read_text()) if args.has else set()
    wanted = [spec.format(cuda=args.cuda) for name, spec in WANTED.items() if name not in has]
    args.to.mkdir(parents=True, exist_ok=True)
    if any(args.to.glob("*.whl")):
        arguments.error(f"{args.to} holds wheels already: remove them, or name another folder")
    platforms = ["any", f"manylinux2014_{args.machine}"]
    platforms += [f"manylinux_2_{n}_{args.machine}" for n in range(17, 40)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--implementation", "cp"]
    command += ["--python-version", args.python, "--dest", str(args.to), *wanted]
    command += [word for platform in platforms for word in ("--platform", platform)]
    if wanted and subprocess.run(command, check=False).returncode:
        print("pip could not fetch them: is there a network here?", file=sys.stderr)
        return 1
    sizes = {wheel.name: wheel.stat().st_size / 2**20 for wheel in args.to.glob("*.whl")}
    for name, size in sorted(sizes.items()):
        print(f"{size:7.2f} MiB  {name}")
    total = sum(sizes.values())
    if total > args.most:
        largest = max(sizes, key=sizes.__getitem__)
        print(
            f"{total:.1f} MiB are more than --most {args.most:g}: name what that machine has with "
            f"--has; the largest is {largest}",
            file=sys.stderr,
        )
        return 1
    print(f"{total:7.2f} MiB in {args.to}/: take them along with the sources, and type there")
    for line in commands(args.to):
        print(f"\n{line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
