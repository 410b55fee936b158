"""tidewire's benchmark suite: loops side by side, in rounds, on pinned cores."""
import pathlib

BENCHMARKS = pathlib.Path(__file__).resolve().parent.parent
ROOT = BENCHMARKS.parent
BUILD = BENCHMARKS / "build"
