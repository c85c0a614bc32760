"""Puts the native library into the wheel, where one has been built."""

import os
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

HERE = Path(__file__).resolve().parent
NAME = {"darwin": "libdiffbir.dylib", "win32": "diffbir.dll"}.get(sys.platform, "libdiffbir.so")


def native() -> Path | None:
    """Return the library to ship: `DIFFBIR_LIBRARY`, else what cargo built beside this folder."""
    named = os.environ.get("DIFFBIR_LIBRARY")
    if named:
        return Path(named)
    built = HERE.parent / "target" / "release" / NAME
    return built if built.is_file() else None


class BuildPy(build_py):
    """Copies the library, its licence and those of the code in it beside the modules."""

    def run(self) -> None:
        """Build as usual, then copy."""
        super().run()
        library = native()
        # An editable install runs from the source folder, which stays free of build output.
        if library is None or self.editable_mode:
            return
        package = Path(self.build_lib) / "diffbir"
        shutil.copyfile(library, package / NAME)
        for name in ("LICENSE", "THIRD-PARTY-NOTICES.txt"):
            shutil.copyfile(HERE.parent / name, package / name)


class BdistWheel(bdist_wheel):
    """Tags the wheel by platform alone: ctypes loads the library in any Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return `py3-none-PLATFORM`, or `py3-none-any` for a wheel without the library."""
        python, abi, platform = super().get_tag()
        return (python, abi, platform) if native() is None else ("py3", "none", platform)


class WithLibrary(Distribution):
    """A distribution that is of one platform where it has the library."""

    def has_ext_modules(self) -> bool:
        """Say so to setuptools."""
        return native() is not None


setup(cmdclass={"build_py": BuildPy, "bdist_wheel": BdistWheel}, distclass=WithLibrary)
