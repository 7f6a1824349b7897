#!/usr/bin/env python3
"""Runs the quality experiments of RESULTS.md through `rodpod backtest` and prints their tables.

    Benchmarks/quality.py [--rodpod .build/release/rodpod] [--beauty DIR] [--diginetica DIR] [--movielens DIR] [--only NAME…]

Each run's report is kept as JSON beside its ranks in --results, and is not run again while it is there. Only the standard library is used.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import time

# What the default, which draws from the pool at random, is held against.
NEGATIVES = ["none", "uniform", "hard"]


def experiments(arguments):
    """Name, data set, command line without the ranks, and the runs that it is tested against by a paired test."""
    seeds = [f"--seed={seed}" for seed in arguments.seeds]
    first = seeds[:1]
    if arguments.diginetica:
        files = [f"{arguments.diginetica}/period_{period:02}.tsv.gz" for period in range(17)]
        # A twentieth of the sessions is never learned from, to see what is forgotten.
        yield "diginetica", ["periods", "--allow-repeats", "--held-out", "0.05", "--interactions", *files, *seeds], [], True
    if arguments.beauty:
        events = ["--interactions", f"{arguments.beauty}/events.tsv.gz"]
        content = ["--items", f"{arguments.beauty}/items.tsv.gz", "--features", f"text={arguments.beauty}/text_features.npy"]
        leave_one_out = ["leave-one-out", *events, *content]
        for negatives in NEGATIVES:
            yield f"beauty-loo-{negatives}", [*leave_one_out, *seeds, "--negatives", negatives], [], False
        yield "beauty-loo-dense", [*leave_one_out, *first, "--experts", "0"], [], False
        yield "beauty-loo-ids", ["leave-one-out", *events, *first], [], False
        variants = [f"beauty-loo-{variant}" for variant in [*NEGATIVES, "dense", "ids"]]
        yield "beauty-loo", [*leave_one_out, *seeds], variants, True

        prequential = ["prequential", "--block", "day", *events, *content]
        yield "beauty-prequential-none", [*prequential, *first, "--negatives", "none"], [], False
        yield "beauty-prequential-dense", [*prequential, *first, "--experts", "0"], [], False
        yield "beauty-prequential-ids", ["prequential", "--block", "day", *events, *first], [], False
        variants = [f"beauty-prequential-{variant}" for variant in ["none", "dense", "ids"]]
        yield "beauty-prequential", [*prequential, *seeds], variants, True

        sampled = ["--set", "objective.full_softmax_max_items=0", "--set", "objective.sampled_softmax_negatives=64", *first]
        for negatives in NEGATIVES:
            yield f"beauty-sampled-{negatives}", [*prequential, *sampled, "--negatives", negatives], [], False
        yield "beauty-sampled-even", [*prequential, *sampled, "--set", "objective.pool_temperature=0"], [], False
        variants = [f"beauty-sampled-{variant}" for variant in [*NEGATIVES, "even"]]
        yield "beauty-sampled", [*prequential, *sampled], variants, False
        yield "beauty-loo-encoder-alone", [*leave_one_out, *first, "--patience", "10", "--set", "model.neighbours=0"], [], False
    if arguments.movielens:
        ratings = ["prequential", "--warmup", "0", "--interactions", f"{arguments.movielens}/ratings.csv.gz", *first]
        yield "movielens-none", [*ratings, "--negatives", "none"], [], False
        yield "movielens", ratings, ["movielens-none"], True


def run(arguments, name, command, against, baselines):
    folder = pathlib.Path(arguments.results)
    result = folder / f"{name}.json"
    if not result.exists():
        command = [arguments.rodpod, "backtest", *command, "--json", "--ranks", str(folder / f"{name}.ranks")]
        if not baselines:
            command.append("--no-baselines")
        for other in against:
            command += ["--against", str(folder / f"{other}.ranks")]
        start = time.monotonic()
        with open(folder / f"{name}.log", "w") as log:
            output = subprocess.run(command, stdout=subprocess.PIPE, stderr=log)
        if output.returncode != 0:
            sys.exit(f"{name} failed: see {folder / name}.log")
        result.write_bytes(output.stdout)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    return json.loads(result.read_text())


def table(header, rows):
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def figure(value, deviation=None):
    text = f"{value:.4f}"
    return text + f" ± {deviation:.4f}" if deviation else text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rodpod", default=".build/release/rodpod")
    parser.add_argument("--results", default=".quality")
    parser.add_argument("--beauty")
    parser.add_argument("--diginetica")
    parser.add_argument("--movielens")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2)))
    parser.add_argument("--only", nargs="+", help="names, or what they start with")
    arguments = parser.parse_args()
    pathlib.Path(arguments.results).mkdir(parents=True, exist_ok=True)
    wanted = [
        experiment
        for experiment in experiments(arguments)
        if not arguments.only or any(experiment[0].startswith(name) for name in arguments.only)
    ]
    if not wanted:
        sys.exit("nothing to run: name at least one of --beauty, --diginetica, --movielens")
    reports = {}
    # What others are tested against runs first.
    for isFirst in (True, False):
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            batch = [experiment for experiment in wanted if (not experiment[2]) == isFirst]
            futures = {pool.submit(run, arguments, *experiment): experiment[0] for experiment in batch}
            for future in concurrent.futures.as_completed(futures):
                reports[futures[future]] = future.result()
    report([experiment[0] for experiment in wanted], reports)


def report(names, reports):
    metrics = ["HR@5", "NDCG@5", "HR@10", "NDCG@10", "HR@20", "MRR@20"]
    for name in names:
        data = reports[name]
        print(f"### {name}\n")
        deviation = data.get("standard_deviation", {})
        rows = []
        for model, result in data["results"].items():
            isModel = model == "rodpod"
            rows.append([model] + [figure(result[metric], deviation.get(metric) if isModel else None) for metric in metrics])
        for slice_name, slice_ in data.get("slices", {}).items():
            result = slice_["results"]["rodpod"]
            rows.append([f"rodpod, {slice_name} ({slice_['count']})"] + [figure(result[metric]) for metric in metrics])
        table(["", *metrics], rows)
        for comparison in data.get("comparisons", []):
            print(f"- {json.dumps(comparison)}")
        if data.get("forgetting"):
            print(f"- forgetting: {json.dumps(data['forgetting'])}")
        print(f"- training: {json.dumps(data['training'])}, peak {data['peak_rss_bytes'] / 2**20:.0f} MiB\n")


if __name__ == "__main__":
    main()
