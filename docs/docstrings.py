"""The site's view of estimators: their docstrings are put together when they are imported."""

from __future__ import annotations

import inspect
from typing import Any

import griffe


class Estimators(griffe.Extension):
    """Has the classes of ldl.sklearn say what they say in Python, in scikit-learn's form."""

    def on_class_instance(self, *, cls: griffe.Class, **_: Any) -> None:
        """Take the docstring of the class that is imported."""
        if cls.docstring is None or not cls.path.startswith("ldl.sklearn."):
            return
        module = griffe.dynamic_import(cls.module.path)
        said = inspect.getdoc(getattr(module, cls.name, None))
        if said and "\n----" in said:
            cls.docstring.value = said
            cls.docstring.parser = griffe.Parser.numpy
