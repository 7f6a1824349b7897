#!/usr/bin/env python3
"""A plain PyTorch reference of the whole model, and the fixtures made from it.

    pip install torch==2.13.0 numpy && python make_fixture.py [FOLDER]

Computes in float64 from parameters already rounded to float32, and writes one safetensors file for each case with the
parameters, the batch, the forward values, the losses and every gradient. The Swift code has to agree tensor by tensor.

Conventions
- A linear map is y = x Wᵀ + b with W of shape [out, in]. Rows 0..d-1 of qkv.weight make the queries, the next d the keys, the
  last d the values; head h owns the h-th run of d/heads columns.
- Sequences are packed: sequence s owns the tokens batch.offsets[s] ..< batch.offsets[s+1], oldest first.
- Every token has a target (the next item; for the last token the held-out one) and a weight; weight 0 takes it out of the loss.
- Layer norm uses the biased variance and eps 1e-5. GELU is the tanh approximation.
"""

import json
import math
import os
import struct
import sys

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
GAP_BUCKETS = 32


def gap_bucket(gap_ms):
    """0: unknown; 1: less than a second (or negative); then one bucket for each doubling, the last open-ended."""
    if gap_ms is None:
        return 0
    if gap_ms <= 0:
        return 1
    return min(GAP_BUCKETS - 1, 1 + math.floor(math.log2(1 + gap_ms // 1000)))


def layer_norm(x, gain, bias):
    return F.layer_norm(x, (x.shape[-1],), gain, bias, eps=1e-5)


def gelu(x):
    return F.gelu(x, approximate="tanh")


def item_tower(p, c, inputs):
    """v [N,d], the load-balancing loss, and what lies between.

    v_i = e_i + g(z_i), z_i = LN(mean over modalities of the projection, or of the placeholder where missing).
    """
    values = {}
    e = p["item.embedding"]
    projections = []
    for name in c["modalities"]:
        x, present = inputs[f"features.{name}.values"], inputs[f"features.{name}.present"]
        projected = F.linear(x, p[f"item.modality.{name}.weight"], p[f"item.modality.{name}.bias"])
        projections.append(torch.where(present[:, None] > 0, projected, p[f"item.modality.{name}.missing"]))
    if c["attributes"]:
        offsets, ids = inputs["features.attributes.offsets"].tolist(), inputs["features.attributes.values"].long()
        rows = []
        for i in range(c["items"]):
            own = ids[offsets[i]:offsets[i + 1]]
            rows.append(p["item.attributes.embedding"][own].mean(0) if len(own) else p["item.attributes.missing"])
        projections.append(torch.stack(rows))
    if not projections:
        return e, torch.zeros(()), values

    z = layer_norm(torch.stack(projections).mean(0), p["item.norm.gain"], p["item.norm.bias"])
    values["z"] = z
    if c["experts"] == 0:
        return e + F.linear(z, p["item.dense.weight"], p["item.dense.bias"]), torch.zeros(()), values

    logits = F.linear(z, p["item.router.weight"], p["item.router.bias"])
    top, selected = logits.topk(c["top_k"], dim=-1)
    gates = top.softmax(-1)
    outputs = torch.stack([
        F.linear(gelu(F.linear(z, p[f"item.expert.{j}.w1"], p[f"item.expert.{j}.b1"])), p[f"item.expert.{j}.w2"], p[f"item.expert.{j}.b2"])
        for j in range(c["experts"])
    ], dim=1)  # [N, E, d]
    chosen = outputs.gather(1, selected[:, :, None].expand(-1, -1, c["d"]))
    g = (gates[:, :, None] * chosen).sum(1)

    # Switch Transformer: E · Σ_j f_j P_j; the fraction f_j of (item, slot) assignments is a constant.
    probability = logits.softmax(-1)
    fraction = F.one_hot(selected, c["experts"]).sum((0, 1)).to(z) / selected.numel()
    balance = c["experts"] * (fraction * probability.mean(0)).sum()
    values.update(router_logits=logits, selected=selected.int(), gates=gates, expert_fraction=fraction)
    return e + g, balance, values


def encoder(p, c, v, batch):
    """h [T,d] for the packed tokens, and the embedded input and each layer's output."""
    d, heads = c["d"], c["heads"]
    values = {}
    offsets = batch["offsets"].tolist()
    age = torch.cat([torch.arange(end - start - 1, -1, -1) for start, end in zip(offsets, offsets[1:])])  # 0 = most recent
    x = (v[batch["item"].long()] + p["encoder.position"][age] + p["encoder.type"][batch["type"].long()]
         + p["encoder.gap_before"][batch["gap_before"].long()] + p["encoder.gap_next"][batch["gap_next"].long()])
    values["input"] = x
    for l in range(c["layers"]):
        w = lambda name: p[f"encoder.layer.{l}.{name}"]
        qkv = F.linear(layer_norm(x, w("norm1.gain"), w("norm1.bias")), w("qkv.weight"), w("qkv.bias"))
        mixed = []
        for start, end in zip(offsets, offsets[1:]):
            n = end - start
            q, k, value = (t.reshape(n, heads, d // heads).transpose(0, 1) for t in qkv[start:end].split(d, dim=-1))
            score = q @ k.transpose(1, 2) / math.sqrt(d // heads)
            score = score.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf)
            mixed.append((score.softmax(-1) @ value).transpose(0, 1).reshape(n, d))
        x = x + F.linear(torch.cat(mixed), w("output.weight"), w("output.bias"))
        inner = gelu(F.linear(layer_norm(x, w("norm2.gain"), w("norm2.bias")), w("up.weight"), w("up.bias")))
        x = x + F.linear(inner, w("down.weight"), w("down.bias"))
        values[f"layer.{l}"] = x
    return layer_norm(x, p["encoder.norm.gain"], p["encoder.norm.bias"]), values


def forward(p, c, inputs, batch):
    v, balance, tower_values = item_tower(p, c, inputs)
    h, encoder_values = encoder(p, c, v, batch)
    scores = h @ v.T + p["item.bias"]  # [T, N]
    return {"item": v, "hidden": h, "scores": scores, **tower_values, **encoder_values}, balance


def losses(c, values, balance, reference_scores, batch):
    target, weight = batch["target"].long(), batch["weight"]
    ce = F.cross_entropy(values["scores"], target, reduction="none")

    # δ(i) = f_θ(s,i) − f_ref(s,i), at the positions that have negatives.
    position, negative = batch["preference.position"].long(), batch["preference.negative"].long()
    delta = (values["scores"] - reference_scores)[position]
    margin = c["beta"] * (delta.gather(1, target[position][:, None]) - delta.gather(1, negative))  # [P, n]
    if c["preference"] == "pairwise":
        preference = F.softplus(-margin).mean(-1)
    else:
        preference = torch.log1p(torch.exp(-margin).sum(-1))
    preference_weight = weight[position]

    result = {
        "ce": (weight * ce).sum() / weight.sum(),
        "preference": (preference_weight * preference).sum() / preference_weight.sum(),
        "balance": balance,
    }
    result["total"] = (c["preference_weight"] * result["preference"] + c["ce_weight"] * result["ce"]
                       + c["load_balancing_weight"] * result["balance"])
    return result, ce, preference


def make_parameters(c, generator):
    d, inner, shapes = c["d"], c["inner"], {}
    shapes["item.embedding"] = (c["items"], d)
    shapes["item.bias"] = (c["items"],)
    for name, size in c["modalities"].items():
        shapes[f"item.modality.{name}.weight"] = (d, size)
        shapes[f"item.modality.{name}.bias"] = (d,)
        shapes[f"item.modality.{name}.missing"] = (d,)
    if c["attributes"]:
        shapes["item.attributes.embedding"] = (c["attributes"], d)
        shapes["item.attributes.missing"] = (d,)
    if c["modalities"] or c["attributes"]:
        shapes["item.norm.gain"] = shapes["item.norm.bias"] = (d,)
        if c["experts"]:
            shapes["item.router.weight"] = (c["experts"], d)
            shapes["item.router.bias"] = (c["experts"],)
            for j in range(c["experts"]):
                shapes[f"item.expert.{j}.w1"] = shapes[f"item.expert.{j}.w2"] = (d, d)
                shapes[f"item.expert.{j}.b1"] = shapes[f"item.expert.{j}.b2"] = (d,)
        else:
            shapes["item.dense.weight"] = (d, d)
            shapes["item.dense.bias"] = (d,)
    shapes["encoder.position"] = (c["length"], d)
    shapes["encoder.type"] = (c["types"], d)
    shapes["encoder.gap_before"] = shapes["encoder.gap_next"] = (GAP_BUCKETS, d)
    for l in range(c["layers"]):
        layer = {
            "norm1.gain": (d,), "norm1.bias": (d,), "qkv.weight": (3 * d, d), "qkv.bias": (3 * d,), "output.weight": (d, d),
            "output.bias": (d,), "norm2.gain": (d,), "norm2.bias": (d,), "up.weight": (inner, d), "up.bias": (inner,),
            "down.weight": (d, inner), "down.bias": (d,),
        }
        shapes.update({f"encoder.layer.{l}.{name}": shape for name, shape in layer.items()})
    shapes["encoder.norm.gain"] = shapes["encoder.norm.bias"] = (d,)

    parameters = {}
    for name, shape in shapes.items():
        value = 0.4 * torch.randn(shape, generator=generator)
        parameters[name] = (value + 1 if name.endswith("gain") else value).float().double()
    return parameters


def make_features(c, generator):
    inputs = {}
    for name, size in c["modalities"].items():
        present = (torch.rand(c["items"], generator=generator) > 0.3).int()
        present[0], present[1] = 1, 0
        inputs[f"features.{name}.values"] = (torch.randn(c["items"], size, generator=generator).float() * present[:, None]).double()
        inputs[f"features.{name}.present"] = present
    if c["attributes"]:
        counts = torch.randint(0, 4, (c["items"],), generator=generator)
        counts[0], counts[1], counts[2] = 2, 0, 3
        inputs["features.attributes.offsets"] = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)]).int()
        inputs["features.attributes.values"] = torch.cat(
            [torch.randperm(c["attributes"], generator=generator)[:n] for n in counts.tolist()]).int()
    return inputs


def make_batch(c, generator):
    """Sequences of several lengths, among them one of a single event and one as long as the model takes."""
    integer = lambda low, high, *shape: torch.randint(low, high, shape, generator=generator)
    lengths = [3, 1, c["length"], 5]
    offsets = [0]
    items, types, times, before, after, targets, nows = [], [], [], [], [], [], []
    positions, negatives = [], []
    for n in lengths:
        chosen = torch.randperm(c["items"], generator=generator)[:n + 1].tolist()
        items += chosen[:-1]
        targets += chosen[1:]
        types += integer(0, c["types"], n).tolist()
        if c["times"]:
            # From the same instant to years apart; the first gap of a sequence is zero.
            gaps = [0 if i == 1 else int(10 ** (11 * u)) for i, u in enumerate(torch.rand(n + 1, generator=generator).tolist())]
            clock = [1_400_000_000_000 + sum(gaps[:i + 1]) for i in range(n + 1)]
            times += clock[:-1]
            nows.append(clock[-1])
            before += [gap_bucket(None)] + [gap_bucket(b - a) for a, b in zip(clock, clock[1:-1])]
            after += [gap_bucket(b - a) for a, b in zip(clock, clock[1:])]
        else:
            before += [gap_bucket(None)] * n
            after += [gap_bucket(None)] * n
        offsets.append(offsets[-1] + n)
        positions.append(offsets[-1] - 1)
        others = [i for i in range(c["items"]) if i not in chosen]
        negatives.append([others[j] for j in torch.randperm(len(others), generator=generator)[:c["negatives"]].tolist()])
    weight = (0.25 + 2 * torch.rand(offsets[-1], generator=generator)).float().double()
    weight[1] = 0
    int32 = lambda x: torch.tensor(x, dtype=torch.int32)
    batch = {
        "offsets": int32(offsets), "item": int32(items), "type": int32(types), "gap_before": int32(before), "gap_next": int32(after),
        "target": int32(targets), "weight": weight, "preference.position": int32(positions), "preference.negative": int32(negatives),
    }
    if c["times"]:
        batch["time_ms"], batch["now_ms"] = torch.tensor(times), torch.tensor(nows)
    return batch


def adam(parameter, gradient):
    """The parameter after one and after two Adam steps with the same gradient."""
    x = parameter.clone().requires_grad_()
    optimiser = torch.optim.Adam([x], lr=1e-3, betas=(0.9, 0.999), eps=1e-8)
    steps = []
    for _ in range(2):
        x.grad = gradient.float().double()
        optimiser.step()
        steps.append(x.detach().clone())
    return steps


def write_safetensors(path, tensors, metadata):
    """Eight bytes of header length, the JSON header, then the tensors, all little-endian."""
    dtypes = {torch.float64: ("F32", torch.float32), torch.int32: ("I32", torch.int32), torch.int64: ("I64", torch.int64)}
    header, chunks, offset = {"__metadata__": {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}}, [], 0
    for name, tensor in tensors.items():
        label, stored = dtypes[tensor.dtype]
        data = tensor.detach().to(stored).contiguous().numpy().tobytes()
        header[name] = {"dtype": label, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(data)]}
        chunks.append(data)
        offset += len(data)
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded + b"".join(chunks))


def make_case(folder, name, seed, **overrides):
    c = dict(items=13, d=8, heads=2, layers=2, inner=16, length=7, types=3, times=True, modalities={}, attributes=0, experts=0, top_k=2,
             negatives=3, preference="pairwise", beta=0.5, preference_weight=0.7, ce_weight=0.9, load_balancing_weight=0.01)
    c.update(overrides)
    generator = torch.Generator().manual_seed(seed)
    parameters = make_parameters(c, generator)
    reference = {k: (v + 0.1 * torch.randn(v.shape, generator=generator)).float().double() for k, v in parameters.items()}
    inputs, batch = make_features(c, generator), make_batch(c, generator)

    with torch.no_grad():
        reference_values, _ = forward(reference, c, inputs, batch)
    for p in parameters.values():
        p.requires_grad_()
    values, balance = forward(parameters, c, inputs, batch)
    for v in values.values():
        if v.requires_grad:
            v.retain_grad()
    result, ce, preference = losses(c, values, balance, reference_values["scores"], batch)
    result["total"].backward()

    tensors = {f"parameter.{k}": v for k, v in parameters.items()}
    tensors.update({f"reference.{k}": v for k, v in reference.items()})
    tensors.update(inputs)
    tensors.update({f"batch.{k}": v for k, v in batch.items()})
    tensors.update({f"forward.{k}": v for k, v in values.items()})
    tensors.update({"forward.ce": ce, "forward.preference": preference, "forward.reference_scores": reference_values["scores"]})
    tensors.update({f"loss.{k}": v for k, v in result.items()})
    tensors.update({f"gradient.{k}": v.grad if v.grad is not None else torch.zeros_like(v) for k, v in parameters.items()})
    tensors.update({f"gradient.forward.{k}": v.grad for k, v in values.items() if v.grad is not None})
    adam_parameter = "encoder.layer.0.qkv.weight"
    first, second = adam(parameters[adam_parameter].detach(), parameters[adam_parameter].grad)
    tensors.update({"adam.step1": first, "adam.step2": second})
    write_safetensors(os.path.join(folder, f"{name}.safetensors"), tensors, {**c, "adam_parameter": adam_parameter})
    print(name, {k: round(v.item(), 6) for k, v in result.items()}, len(tensors), "tensors")


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    make_case(folder, "moe", 1, modalities={"text": 5}, attributes=6, experts=4, load_balancing_weight=0.2)
    make_case(folder, "dense", 2, modalities={"image": 3, "text": 5}, attributes=6, preference="softmax", beta=1.0)
    make_case(folder, "ids", 3, times=False)
