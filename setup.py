"""What pyproject.toml cannot say: wheels hold the kernels as machine code, for every Python 3.

Where there is no C compiler the wheel is one of plain Python, and the runtime compiles at first use
or computes with numpy.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py


def load_build() -> ModuleType:
    """``runtime/build.py``, without the package's dependencies."""
    path = Path(__file__).resolve().parent / "runtime" / "build.py"
    spec = importlib.util.spec_from_file_location("runtime_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildWithKernels(build_py):
    """Compiles the kernels into the package."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        build = load_build()
        try:
            build.compile_to(Path(self.build_lib) / "runtime" / "kernels")
        except build.NoLibrary as error:
            print(f"cidermill: no kernels in this build: {error}", file=sys.stderr)


class WheelWithKernels(bdist_wheel):
    """Tagged for this kind of machine, if there is machine code in it."""

    def has_kernels(self) -> bool:
        return any(Path(self.bdist_dir or "", "runtime", "kernels").glob("*.so"))

    def get_tag(self) -> tuple[str, str, str]:
        python, abi, platform = super().get_tag()
        if self.has_kernels():
            self.root_is_pure = False
            return "py3", "none", super().get_tag()[2]
        return python, abi, platform


setup(cmdclass={"build_py": BuildWithKernels, "bdist_wheel": WheelWithKernels})
