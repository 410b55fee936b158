"""Build of the C extension ``tidewire._core``; the metadata is in pyproject.toml."""
import glob
import subprocess
from setuptools import Extension, setup

flags = lambda what: subprocess.check_output(["pkg-config", what, "libuv"], text=True).split()
setup(
    name="tidewire", version="0.1.0",
    package_dir={"": "pkg"}, packages=["tidewire"],
    ext_modules=[Extension(
        "tidewire._core", sorted(glob.glob("csrc/**/*.c", recursive=True)),
        include_dirs=["csrc"], depends=glob.glob("csrc/**/*.h", recursive=True),
        extra_compile_args=["-std=c11", "-O3", "-g", "-fvisibility=hidden", "-Wall", "-Wextra",
                            "-Wno-unused-parameter", "-Wno-missing-field-initializers"] + flags("--cflags"),
        extra_link_args=flags("--libs"))],
)
