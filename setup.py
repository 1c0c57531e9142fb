"""What pyproject.toml cannot say: one extension on Python's limited API, and the data sets inside the package."""

from pathlib import Path
from shutil import copytree

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

NATIVE = Path("sparselmm/linalg/kernels/native")
UNIX = ["-std=gnu11", "-O3", "-fno-trapping-math", "-fno-math-errno", "-Wno-psabi", "-Wno-unknown-pragmas"]


class BuildExtension(build_ext):
    """Flags by compiler."""

    def build_extensions(self) -> None:
        """Build as usual."""
        for extension in self.extensions:
            extension.extra_compile_args = [] if self.compiler.compiler_type == "msvc" else UNIX
        super().build_extensions()


class BuildPython(build_py):
    """The data sets lie in data/ and go into sparselmm/_datasets; an editable install reads them where they are."""

    def run(self) -> None:
        """Copy the modules and then the data."""
        super().run()
        if not self.editable_mode:
            copytree("data", Path(self.build_lib) / "sparselmm" / "_datasets", dirs_exist_ok=True)


native = Extension(
    "sparselmm.linalg.kernels._native",
    sources=[str(source) for source in sorted(NATIVE.glob("*.c"))],
    depends=[str(part) for part in (*NATIVE.glob("*.h"), *NATIVE.glob("*.inc"))],
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    py_limited_api=True,
)
setup(
    ext_modules=[native],
    cmdclass={"build_ext": BuildExtension, "build_py": BuildPython},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
