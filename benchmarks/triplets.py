"""Filters of minimal-change triplets on drawn pairs of known kind: precision, recall by kind, camera error, and what a candidate costs.

    python -m benchmarks.triplets [--quick]

The peer of cost is the same filters without their order: everything measured for every candidate. Times are CPU time of one thread.
"""

import argparse
import sys
import time
from collections import Counter

import numpy as np

from annotators.evaluation import ratio
from annotators.triplets.camera import border_shift, corner_shift, fast_flow
from annotators.triplets.filters import FILTERS, judge
from annotators.triplets.pair import Evidence, Pair, grey
from tests.support.tabletop import SINGLE, SPOILT, Drawn, make

SHIFTS = (0.0, 0.5, 1.0, 2.0, 4.0)


def pair_of(drawn: Drawn) -> Pair:
    return Pair(drawn.source, drawn.target, drawn.prompt, drawn.before, drawn.after, drawn.robot)


def everything(pair: Pair) -> None:
    e = Evidence(pair)
    for _, look in FILTERS:
        if e.parts or look.__name__ != "prompt":
            look(e)
    corner_shift(*e.greys)


def quality(seeds: range) -> None:
    hits, accepted, where = list[float](), list[float](), list[int]()
    print("kind              pairs  accepted  read as / refused as")
    for kind in (*SINGLE, *SPOILT):
        verdicts, taken = Counter[str](), 0
        for seed in seeds:
            found = judge(Evidence(pair_of(make(kind, seed))))
            taken += found.reason is None
            verdicts[found.reason or (found.moved.kind if found.moved else "")] += 1
            hits.append(float(found.reason is None and kind in SINGLE))
            accepted.append(float(found.reason is None))
            where.append(seed)
        print(f"{kind:16} {len(seeds):6} {taken:9}  {dict(verdicts)}")
    scenes = len(seeds)
    value, ci = ratio(*(np.bincount(where, x, scenes + seeds.start)[seeds.start :].astype(np.float64) for x in (hits, accepted)))
    every = len(SINGLE) / (len(SINGLE) + len(SPOILT))
    print(
        f"precision {value:.3f} {ci}, taking every pair {every:.3f}; recall of single changes {sum(hits) / (len(SINGLE) * scenes):.3f}"
    )


def camera(seeds: range) -> None:
    print("shift px   border median error   p90   all flow   ORB says nothing")
    for length in SHIFTS:
        own, plain, silent = list[float](), list[float](), 0
        for seed in seeds:
            drawn = make("location", seed, jitter=length) if length else make("location", seed)
            first, second = grey(drawn.source), grey(drawn.target)
            flow = fast_flow(first, second)
            found = border_shift(flow, first)
            own.append(float(np.hypot(found.dx - drawn.camera[0], found.dy - drawn.camera[1])))
            plain.append(float(np.linalg.norm(np.median(flow.reshape(-1, 2), 0) - drawn.camera)))
            silent += corner_shift(first, second) is None
        print(
            f"{length:8.1f} {np.median(own):21.3f} {np.percentile(own, 90):5.3f} {np.median(plain):10.3f} {silent:10} of {len(seeds)}"
        )


def cost(seeds: range, rounds: int) -> None:
    pairs = [pair_of(make(kind, seed)) for kind in (*SINGLE, *SPOILT) for seed in seeds]
    ours, peer = list[float](), list[float]()
    for _ in range(rounds):
        for times, work in ((ours, lambda p: judge(Evidence(p))), (peer, everything)):
            started = time.process_time()
            for pair in pairs:
                work(pair)
            times.append(1000 * (time.process_time() - started) / len(pairs))
    a, b = float(np.median(ours)), float(np.median(peer))
    print(
        f"{a:.2f} CPU ms per candidate in order of cost, {b:.2f} with everything measured: ratio {b / a:.2f} ({len(pairs)} pairs, {rounds} rounds)"
    )


def main() -> int:
    import cv2

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few pairs of each kind")
    quick = parser.parse_args().quick
    cv2.setNumThreads(1)
    seeds = range(100, 106 if quick else 160)
    quality(seeds)
    camera(seeds)
    cost(range(100, 102 if quick else 106), 2 if quick else 5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
