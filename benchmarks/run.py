#!/usr/bin/env python3
"""Run the benchmarks; ``run.py --help`` tells how, README.rst what is measured."""
import sys

from tide_bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
