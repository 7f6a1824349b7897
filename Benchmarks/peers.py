#!/usr/bin/env python3
"""Times rodpod-bench and the same work in PyTorch by turns on one core, and prints the ratios.

    Benchmarks/peers.py [--bench .build/release/rodpod-bench] [train] [rank]

The environment is that of rodpod-bench: BENCH_JSON is a file for all figures, BEAUTY the folder of the Beauty data set, and BENCH_CLOCK=cpu
takes time by CPU time instead of the wall clock. Needs PyTorch. The peer gets what its user would reach for: scaled dot-product attention,
fused Adam, no padding mask, padding trimmed to the batch's longest sequence, and one product for a batch's scores.
"""

import argparse
import csv
import gzip
import json
import math
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402  (the number of threads is read when it loads)
import torch.nn.functional as F  # noqa: E402

HIDDEN, LENGTH, HEADS, LAYERS, INNER, BATCH, NEGATIVES, TOP = 64, 50, 2, 2, 256, 128, 4, 100
HERE = pathlib.Path(__file__).parent


class SASRec(torch.nn.Module):
    def __init__(self, items):
        super().__init__()
        self.item = torch.nn.Embedding(items, HIDDEN)
        self.bias = torch.nn.Parameter(torch.zeros(items))
        self.position = torch.nn.Embedding(LENGTH, HIDDEN)
        torch.nn.init.normal_(self.item.weight, std=0.02)
        torch.nn.init.normal_(self.position.weight, std=0.02)
        layer = torch.nn.TransformerEncoderLayer(HIDDEN, HEADS, INNER, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.norm = torch.nn.LayerNorm(HIDDEN)
        self.register_buffer("mask", torch.triu(torch.ones(LENGTH, LENGTH, dtype=torch.bool), 1))

    def forward(self, items):
        """(B, L) -> (B, L, d); sequences begin at the left, so that the causal mask hides the padding behind them."""
        length = items.shape[1]
        x = self.item(items) + self.position.weight[:length]
        return self.norm(self.encoder(x, mask=self.mask[:length, :length], is_causal=True))


def seconds():
    return time.process_time() if os.environ.get("BENCH_CLOCK") == "cpu" else time.perf_counter()


def per_second(units, work, repeats=7, duration=0.5):
    """The median rate of some repeats."""
    for _ in range(2):
        work()
    start = seconds()
    work()
    calls = max(1, int(duration / (seconds() - start)))
    rates = []
    for _ in range(repeats):
        start = seconds()
        for _ in range(calls):
            work()
        rates.append(units * calls / (seconds() - start))
    return statistics.median(rates)


class Training:
    """Steps of RoDPO at the last position, with softmax cross-entropy at every position if `cross_entropy` says so."""

    def __init__(self, sequences, items, cross_entropy):
        self.sequences, self.items, self.cross_entropy = sequences, items, cross_entropy
        self.policy, self.reference = SASRec(items), SASRec(items)
        self.reference.load_state_dict(self.policy.state_dict())
        self.reference.eval()
        self.optimizer = torch.optim.Adam(self.policy.parameters(), 1e-3, fused=True)
        self.next = 0
        self.losses = []

    def batch(self):
        """Contexts and targets (B, L), and the lengths; a context's padding is item 0."""
        if self.next + BATCH > len(self.sequences):
            self.next = 0
        sequences = self.sequences[self.next : self.next + BATCH]
        self.next += BATCH
        padded = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
        return padded[:, :-1], padded[:, 1:], torch.tensor([len(s) - 1 for s in sequences])

    def scores(self, model, hidden, candidates):
        return (hidden.unsqueeze(1) * model.item(candidates)).sum(-1) + model.bias[candidates]

    def step(self):
        contexts, targets, lengths = self.batch()
        rows = torch.arange(BATCH)
        last = lengths - 1
        candidates = torch.cat([targets[rows, last].unsqueeze(1), torch.randint(self.items, (BATCH, NEGATIVES))], 1)
        hidden = self.policy(contexts)
        gains = self.scores(self.policy, hidden[rows, last], candidates)
        with torch.no_grad():
            anchor = self.scores(self.reference, self.reference(contexts)[rows, last], candidates)
        gains = gains - anchor
        loss = -F.logsigmoid(0.5 * (gains[:, :1] - gains[:, 1:])).mean()
        if self.cross_entropy:
            real = torch.arange(contexts.shape[1]) < lengths.unsqueeze(1)
            loss = loss + F.cross_entropy(torch.addmm(self.policy.bias, hidden[real], self.policy.item.weight.T), targets[real])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item())

    def rate(self):
        rate = per_second(BATCH, self.step)
        few = max(1, len(self.losses) // 10)
        first, final = statistics.mean(self.losses[:few]), statistics.mean(self.losses[-few:])
        assert math.isfinite(final) and final < 0.99 * first, f"the peer's loss went from {first} to {final}"
        return rate


def real_sequences():
    """Users' items, shuffled, at most LENGTH + 1 of each; and the number of items."""
    if folder := os.environ.get("BEAUTY"):
        users, numbers = {}, {}
        with gzip.open(f"{folder}/events.tsv.gz", "rt") as file:
            for event in csv.DictReader(file, delimiter="\t"):
                item = numbers.setdefault(event["item"], len(numbers))
                users.setdefault(event["user"], []).append((int(event["position"]), item))
        sequences = [torch.tensor([item for _, item in sorted(events)][-LENGTH - 1 :]) for events in users.values()]
        items = len(numbers)
    else:
        items = 12_101
        with open(HERE / "beauty_lengths.tsv") as file:
            lengths = [int(row["events"]) for row in csv.DictReader(file, delimiter="\t") for _ in range(int(row["users"]))]
        sequences = [(torch.rand(min(length, LENGTH + 1)) ** 3 * items).long() for length in lengths]
    return [sequences[i] for i in torch.randperm(len(sequences))], items


def train():
    full = list(torch.randint(12_000, (1024, LENGTH + 1)))
    yield "train.full.sequences_per_second", Training(full, 12_000, cross_entropy=False).rate()
    sequences, items = real_sequences()
    rate = Training(sequences, items, cross_entropy=True).rate()
    yield "train.real.sequences_per_second", rate
    yield "train.real.float32.sequences_per_second", rate


@torch.inference_mode()
def rank():
    for name, items in (("100k", 100_000), ("1m", 1_000_000)):
        model = SASRec(items).eval()
        model.item.weight.normal_(std=0.1)
        # An item that is not available has a bias of −∞, so that this rule costs nothing more.
        bias = torch.where(torch.rand(items) < 0.05, -torch.inf, 0.5 * torch.randn(items))
        users = torch.randint(items, (BATCH, LENGTH))

        def lists(users):
            scores = torch.addmm(bias, model(users)[:, -1], model.item.weight.T)
            return scores.scatter_(1, users, -torch.inf).topk(TOP)

        assert lists(users).values.isfinite().all()
        yield f"rank.batch.users_per_second.{name}", per_second(BATCH, lambda: lists(users))
        if name == "100k":
            latencies = []
            for index in range(550):
                start = seconds()
                lists(users[index % BATCH].unsqueeze(0))
                latencies.append((seconds() - start) * 1e6)
            latencies = sorted(latencies[50:])
            yield "rank.single.latency_us.100k", latencies[len(latencies) // 2]
            yield "rank.single.latency_us.100k.p99", latencies[len(latencies) * 99 // 100]


GROUPS = {"train": train, "rank": rank}


def own_figures(bench, group):
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        subprocess.run([bench, group], check=True, env={**os.environ, "BENCH_JSON": file.name})
        return json.loads(pathlib.Path(file.name).read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default=".build/release/rodpod-bench")
    parser.add_argument("groups", nargs="*", metavar="group", help=", ".join(GROUPS))
    arguments = parser.parse_args()
    if unknown := set(arguments.groups) - set(GROUPS):
        parser.error(f"no peer is there for {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    torch.manual_seed(1)
    figures, lines = {}, []
    for group in arguments.groups or GROUPS:
        figures |= own_figures(arguments.bench, group)
        for name, peer in GROUPS[group]():
            ratio = peer / figures[name] if "latency" in name else figures[name] / peer
            figures[f"{name}.torch"], figures[f"{name}.times_torch"] = peer, ratio
            lines.append(f"{name:<44}{figures[name]:>12.0f}{peer:>12.0f}{ratio:>10.2f}")
    print(f"\n{'figure':<44}{'rodpod':>12}{'torch':>12}{'ratio':>10}   (PyTorch {torch.__version__}; a ratio above 1 is rodpod's favour)")
    print("\n".join(lines))
    if path := os.environ.get("BENCH_JSON"):
        pathlib.Path(path).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
