#!/usr/bin/env python3
"""Runs the quality experiments of RESULTS.md through `rodpod backtest` and prints their tables.

    Benchmarks/quality.py [--rodpod .build/release/rodpod] [--beauty DIR] [--diginetica DIR] [--movielens DIR] [--only NAME…]

Each run's report is kept as JSON beside its ranks in --results, and is not run again while it is there. Only the standard library is used.
"""

import argparse
import concurrent.futures
import fnmatch
import json
import math
import os
import pathlib
import subprocess
import sys
import time

# What the default, which draws from the pool at random, is held against.
NEGATIVES = ["none", "uniform", "hard"]


def experiments(arguments):
    """Name, arguments of `rodpod backtest`, and the experiment that it is a variant of, if it is one."""
    seeds = [f"--seed={seed}" for seed in arguments.seeds]
    first = seeds[:1]
    if arguments.diginetica:
        files = [f"{arguments.diginetica}/period_{period:02}.tsv.gz" for period in range(17)]
        periods = ["periods", "--allow-repeats", "--patience", "3", "--interactions", *files]
        yield "diginetica", [*periods, *seeds], None
        # A twentieth of the sessions is never learned from.
        yield "diginetica-forgetting", [*periods, *first, "--held-out", "0.05"], "diginetica"
    if arguments.beauty:
        events = ["--interactions", f"{arguments.beauty}/events.tsv.gz"]
        content = ["--items", f"{arguments.beauty}/items.tsv.gz", "--features", f"text={arguments.beauty}/text_features.npy"]
        leave_one_out = ["leave-one-out", *events, *content]
        yield "beauty-loo", [*leave_one_out, *seeds], None
        prequential = ["prequential", "--block", "day", *events, *content]
        yield "beauty-prequential", [*prequential, *seeds], None
        yield "beauty-loo-ids", ["leave-one-out", *events, *first], "beauty-loo"
        yield "beauty-prequential-none", [*prequential, *seeds, "--negatives", "none"], "beauty-prequential"
        yield "beauty-prequential-ids", ["prequential", "--block", "day", *events, *first], "beauty-prequential"

        for negatives in NEGATIVES:
            yield f"beauty-loo-{negatives}", [*leave_one_out, *seeds, "--negatives", negatives], "beauty-loo"

        # With the paper's experts: what they add, and on this base what the preference term adds.
        experts = ["--experts", "4"]
        yield "beauty-loo-moe", [*leave_one_out, *seeds, *experts], "beauty-loo"
        yield "beauty-prequential-moe", [*prequential, *seeds, *experts], "beauty-prequential"
        yield "beauty-loo-moe-none", [*leave_one_out, *seeds, *experts, "--negatives", "none"], "beauty-loo-moe"
        # Without the evidence of content beside the counts.
        alone = ["--set", "model.content_neighbours=0"]
        yield "beauty-loo-no-content-neighbours", [*leave_one_out, *first, *alone], "beauty-loo"
        yield "beauty-prequential-no-content-neighbours", [*prequential, *first, *alone], "beauty-prequential"
        # How far the policy may leave the reference, and how old that may be.
        for name, setting in [
            ("beta-0.1", "objective.beta=0.1"), ("beta-2", "objective.beta=2"), ("reference-1", "learner.reference_refresh_strides=1"),
            ("reference-kept", "learner.reference_refresh_strides=1000000"),
        ]:
            yield f"beauty-prequential-{name}", [*prequential, *first, "--set", setting], "beauty-prequential"
        # Where the whole softmax is not affordable: a sample of so many items, with and without the neighbourhood beside the encoder.
        for count in [8, 64]:
            sample = ["--set", "objective.full_softmax_max_items=0", "--set", f"objective.sampled_softmax_negatives={count}", *first]
            for name, model in [("", []), ("-encoder", ["--set", "model.neighbours=0"])]:
                name = f"beauty-sample-{count}{name}"
                yield name, [*prequential, *sample, *model], None
                for negatives in NEGATIVES:
                    yield f"{name}-{negatives}", [*prequential, *sample, *model, "--negatives", negatives], name
        yield "beauty-loo-encoder-alone", [*leave_one_out, *first, "--patience", "10", "--set", "model.neighbours=0"], "beauty-loo"
    if arguments.movielens:
        ratings = ["prequential", "--warmup", "0", "--interactions", f"{arguments.movielens}/ratings.csv.gz", *first]
        yield "movielens", ratings, None
        yield "movielens-none", [*ratings, "--negatives", "none"], "movielens"


def run(arguments, name, command, original):
    folder = pathlib.Path(arguments.results)
    result = folder / f"{name}.json"
    if not result.exists():
        command = [arguments.rodpod, "backtest", *command, "--json", "--ranks", str(folder / f"{name}.ranks")]
        if original:
            command.append("--no-baselines")
        start = time.monotonic()
        with open(folder / f"{name}.log", "w") as log:
            output = subprocess.run(command, stdout=subprocess.PIPE, stderr=log)
        if output.returncode != 0:
            sys.exit(f"{name} failed: see {folder / name}.log")
        result.write_bytes(output.stdout)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    return json.loads(result.read_text())


def gains(path, cutoff):
    """NDCG of each case by its target's place in the history, as a mean over the seeds that both runs have."""
    with open(path) as ranks:
        next(ranks)
        for line in ranks:
            target, *places = line.rstrip("\n").split("\t")
            yield target, [0.0 if p == "-" or int(p) >= cutoff else 1 / math.log2(int(p) + 2) for p in places]


def compare(folder, original, variant, cutoff=5):
    """The original against its variant on the same cases: relative difference of NDCG and the p-value of a paired z-test."""
    differences, base = [], 0.0
    for (target, a), (other, b) in zip(gains(f"{folder}/{original}.ranks", cutoff), gains(f"{folder}/{variant}.ranks", cutoff)):
        assert target == other, "two runs of one experiment have the same cases"
        seeds = min(len(a), len(b))
        differences.append((sum(a[:seeds]) - sum(b[:seeds])) / seeds)
        base += sum(b[:seeds]) / seeds
    count = len(differences)
    mean = sum(differences) / count
    error = math.sqrt(sum((d - mean) ** 2 for d in differences) / (count - 1) / count)
    return mean / (base / count), math.erfc(abs(mean) / error / math.sqrt(2)) if error > 0 else 1.0


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
    parser.add_argument("--only", nargs="+", help="names, or patterns such as beauty-*")
    arguments = parser.parse_args()
    pathlib.Path(arguments.results).mkdir(parents=True, exist_ok=True)
    wanted = [
        experiment
        for experiment in experiments(arguments)
        if not arguments.only or any(fnmatch.fnmatchcase(experiment[0], name) for name in arguments.only)
    ]
    if not wanted:
        sys.exit("nothing to run: name at least one of --beauty, --diginetica, --movielens")
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        futures = {experiment[0]: pool.submit(run, arguments, *experiment) for experiment in wanted}
        reports = {name: future.result() for name, future in futures.items()}
    report(arguments.results, wanted, reports)


def report(folder, wanted, reports):
    metrics = ["HR@5", "NDCG@5", "HR@10", "NDCG@10", "HR@20", "MRR@20"]
    for name, _, original in wanted:
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
        if original in reports and not data.get("forgetting"):
            difference, p = compare(folder, original, name)
            print(f"- {original} against this: NDCG@5 {difference:+.2%}, p = {p:.2g}")
        if data.get("forgetting"):
            print(f"- forgetting: {json.dumps(data['forgetting'])}")
        print(f"- training: {json.dumps(data['training'])}, peak {data['peak_rss_bytes'] / 2**20:.0f} MiB\n")


if __name__ == "__main__":
    main()
