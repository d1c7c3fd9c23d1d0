"""The tests marked `gpu` need a GPU, and neither g++ nor NVRTC's wheel."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
WITHOUT = """
import cuda_host, fake_cublaslt, nvrtc, pytest, sys
cuda_host.compiler = lambda: None
nvrtc.library = lambda: None
class NoGpu:
    def pytest_collection_modifyitems(self, items):
        self.found = [item for item in items if item.get_closest_marker("gpu")]
        self.marks = {m.kwargs["reason"] for i in self.found for m in i.iter_markers("skipif")}
    def pytest_collectreport(self, report):
        assert report.passed, report.longrepr
seen = NoGpu()
options = ["-p", "no:cacheprovider", "--collect-only", "-q", "-m", "gpu", *sys.argv[1:]]
code = pytest.main(options, [seen])
print(len(seen.found), seen.marks, int(code))
"""


def test_they_are_collected_and_not_skipped_where_there_is_no_compiler():
    modules = [str(f) for f in sorted(ROOT.glob("tests/test_*.py")) if "mark.gpu" in f.read_text()]
    path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'backends'}:{ROOT / 'tests'}"}
    command = [sys.executable, "-c", WITHOUT, *modules]
    done = subprocess.run(command, cwd=ROOT, env=path, capture_output=True, text=True, check=False)
    last = done.stdout.splitlines()[-1]
    count, _, rest = last.partition(" ")
    assert rest == "set() 0", done.stdout + done.stderr
    assert int(count) > 250
