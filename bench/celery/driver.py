"""Runs canvases and measures them: a JSON request per line on stdin, an answer per line on stdout."""

import json
import sys
import time
from collections import deque

from celery import chain, chord, group
from tasks import append, total


def canvas(shape, size, base):
    if shape == "chain":
        return chain(append.s(base, 1), *(append.s(digit) for digit in range(2, size + 1)))
    members = group(append.s(base, digit) for digit in range(size))
    return members if shape == "group" else chord(members, total.s())


def run(shape, size, bases, outstanding):
    """`outstanding` at a time; whoever has waited longest is waited for next."""
    begun, results, latencies = deque(), [], []

    def finish():
        start, pending = begun.popleft()
        results.append(pending.get(timeout=300))
        latencies.append(1000 * (time.perf_counter() - start))

    for base in bases:
        if len(begun) == outstanding:
            finish()
        start = time.perf_counter()
        begun.append((start, canvas(shape, size, base).apply_async()))
    while begun:
        finish()
    return {"results": results, "latencies": latencies}


for line in sys.stdin:
    print(json.dumps(run(**json.loads(line))), flush=True)
