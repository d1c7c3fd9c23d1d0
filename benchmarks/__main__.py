"""Everything: `python -m benchmarks`, which is what `make bench` runs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from benchmarks import options, report, results, threads

DESCRIPTION = """\
Run the whole suite and write FILE.json, FILE.md and FILE.png.

Parts, each a command of its own (--help explains it):
  python -m benchmarks.end_to_end          steps and predictions beside other libraries
  python -m benchmarks.memory              peak memory of a step
  python -m benchmarks.cold                import, installed size, first epoch
  pytest benchmarks/test_kernels.py        kernels and layers, backend against backend
  python -m benchmarks.report FILE.json    the table and the picture again

Run it on a machine that does nothing else; it takes about ten minutes."""

PARTS = ("end_to_end", "memory", "cold", "kernels")


def kernels(path: Path, count: int, quick: bool) -> int:
    """Run pytest-benchmark on kernels and layers, and add its medians and minima."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "kernels.json")
        seconds = "0.001" if quick else "0.15"
        command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=--import-mode=importlib"]
        command += ["benchmarks/test_kernels.py", f"--benchmark-json={raw}", "--benchmark-quiet"]
        command += [f"--benchmark-max-time={seconds}", "--benchmark-min-rounds=3"]
        command += ["--benchmark-columns=median,min,rounds", "--benchmark-disable-gc"]
        code = subprocess.run(command, cwd=Path(__file__).parent.parent, check=False).returncode
        if not raw.exists() or not raw.stat().st_size:
            return code or 1
        found = json.loads(raw.read_text())["benchmarks"]
    from benchmarks.kernel_cases import PARAMETERS

    rows: dict[str, dict[str, list[float]]] = {}
    for one in found:
        stats, info = one["stats"], one["extra_info"]
        rows.setdefault(info["name"], {})[info["backend"]] = [stats["median"], stats["min"]]
    backends = sorted({backend for row in rows.values() for backend in row}, reverse=True)
    content = {"quick": quick, "backends": backends, "parameters": PARAMETERS, "rows": rows}
    results.add(path, "kernels", content, count)
    return code


def main(argv: list[str] | None = None) -> int:
    """Run the parts one after another."""
    parser = options.parser("benchmarks", DESCRIPTION)
    parser.add_argument(
        "--part",
        action="append",
        choices=PARTS,
        help="this part alone; may be repeated (default: all of them)",
    )
    args = parser.parse_args(argv)
    threads.pin(args.threads)
    path = args.out.resolve()
    codes = []
    for part in args.part or PARTS:
        start = perf_counter()
        results.say(f"\n==== {part}")
        if part == "kernels":
            codes.append(kernels(path, args.threads, args.quick))
        else:
            command = [sys.executable, "-m", f"benchmarks.{part}", "--out", str(path)]
            command += ["--threads", str(args.threads)] + ["--quick"] * args.quick
            codes.append(subprocess.run(command, check=False).returncode)
        results.say(f"==== {part}: {perf_counter() - start:.0f} s")
    for made in report.write(path):
        results.say(f"written {made}")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
