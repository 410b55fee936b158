"""Faults in turn: programs on a loop while system calls and allocations fail.

``shim/`` is a library for LD_PRELOAD that makes calls fail; ``programs_*.py`` are the programs;
``judge.py`` runs one of them in a forked child and says what is wrong; ``plan.py`` lists the faults;
``run.py`` runs them all (``make faults``), ``test_faults.py`` a sample.
"""
