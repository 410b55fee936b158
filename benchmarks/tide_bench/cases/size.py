"""What a loop's package takes, packed as a wheel packs it."""
import importlib
import io
import pathlib
import sys
import sysconfig
import zipfile

from ..case import process

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def files(package):
    """The package's, and those of the libraries packed with it; for this Python alone."""
    places = [package, *package.parent.glob(f"{package.name}.libs")]
    for path in sorted(p for place in places for p in place.rglob("*") if p.is_file()):
        other = ".cpython-" in path.name and path.suffix == ".so" \
            and not path.name.endswith(SUFFIX)
        if path.suffix != ".pyc" and not other:
            yield path


def wheel(env):
    """Compressed bytes of what is imported from, without the metadata."""
    module = importlib.import_module(env.factory.partition(":")[0].partition(".")[0])
    if module.__name__ in sys.stdlib_module_names:
        raise SystemExit("it is a part of Python")
    if module.__name__ == "tide_bench":
        raise SystemExit("it is no package of its own")
    packed = io.BytesIO()
    package = pathlib.Path(module.__file__).parent
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files(package):
            archive.write(path, path.relative_to(package.parent))
    return {"bytes": packed.tell()}


process("wheel", "size of the wheel", wheel, rounds=1)
