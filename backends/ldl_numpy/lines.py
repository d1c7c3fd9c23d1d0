"""Functions of whole numbers, addresses and strides among them, written in LLVM's own language."""

from __future__ import annotations

from ldl_numpy.translate import Function


class Lines:
    """The lines of a function, being written."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0

    def let(self, text: str) -> str:
        """The name of what an instruction gives."""
        self.count += 1
        self.lines.append(f"  %v{self.count} = {text}")
        return f"%v{self.count}"

    def put(self, text: str) -> None:
        """Write an instruction."""
        self.lines.append(f"  {text}")

    def label(self, name: str) -> None:
        """Begin a block."""
        self.lines.append(f"{name}:")

    def function(self, name: str, params: str) -> Function:
        """The function, of parameters by their names, which gives nothing."""
        given = ", ".join(f"i64 %{param}" for param in params.split())
        text = [f"define internal void @{name}({given}) noinline #0 {{", *self.lines, "}"]
        return Function(name, "\n".join(text), "", frozenset())
