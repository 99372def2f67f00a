"""Programs that a model has written, run where they can do no harm.

    outside.py   starts a fresh interpreter, watches the clock and the output, says what happened
    inside.py    walls itself in, then runs the program
    calls.py     system calls by name and processor, and the filter that seccomp takes

Layers, each by itself a wall:

    namespaces   its own users, processes, network (none), host name, mounts: an empty disk of its own in memory, of 16 MB
    landlock     files: Python's own to read, that disk to write, nothing else
    seccomp      no sockets, no new processes or programs, no tracing, no mounts, no keys, no io_uring; threads are allowed
    limits       memory, CPU time, size of files, open files, threads

The word that says a program came to its end is in no frame, and walks through objects, frames of threads and traces are refused.

What is left: the program shares its interpreter with its tests, so that one written to forge their outcome by replacing what they compare
with, or by searching the interpreter's memory for the word, would pass; and a kernel with a hole.
"""

from codedev.eval.sandbox.outside import LAYERS, Outcome, check, run, run_many

__all__ = ["LAYERS", "Outcome", "check", "run", "run_many"]
