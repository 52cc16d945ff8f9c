#!/usr/bin/env python3
"""Golden values of the losses and schedules, from torch 2.13, transformers 5.23 and the formulas of TRL 1.16.

usage: make_losses_golden.py > losses.json
Every loss is written here anew in plain torch on padded batches, as TRL computes it, with its gradient by autograd.
"""
import json, math
import torch
import torch.nn.functional as F
from transformers import get_scheduler

torch.manual_seed(0)
golden = {}

def numbers(t): return [float(x) for x in t.detach().flatten()]

# GRPO: 4 completions of 5, 3, 4, 1 tokens.
lengths = [5, 3, 4, 1]
B, T = len(lengths), max(lengths)
mask = torch.zeros(B, T)
for i, n in enumerate(lengths): mask[i, :n] = 1
old = -torch.rand(B, T) * 2
new = (old + 0.4 * torch.randn(B, T)).requires_grad_()
ref = old + 0.2 * torch.randn(B, T)
adv = torch.tensor([1.2, -0.7, 0.3, -1.1])
flat = lambda x: numbers(x[mask.bool()])
cases = []
for loss_type in ("grpo", "bnpo", "dr_grpo", "dapo"):
    for level in ("token", "sequence"):
        for beta, delta in ((0.0, None), (0.04, 1.5)):
            new.grad = None
            log_ratio = new - old
            w = log_ratio if level == "token" else ((log_ratio * mask).sum(-1) / mask.sum(-1).clamp(min=1)).unsqueeze(-1)
            c1 = torch.exp(w)
            kl = torch.exp(ref - new) - (ref - new) - 1
            kl = kl * c1
            c2 = torch.clamp(c1, 0.8, 1.28)
            capped = torch.clamp(c1, max=delta) if delta else c1
            l = -torch.min(capped * adv[:, None], c2 * adv[:, None])
            if beta: l = l + beta * kl
            l = l.expand(B, T)
            if loss_type == "grpo": loss = ((l * mask).sum(-1) / mask.sum(-1)).mean()
            elif loss_type == "dr_grpo": loss = (l * mask).sum() / (B * 16)
            else: loss = (l * mask).sum() / mask.sum()
            loss.backward()
            cases.append({"loss_type": loss_type, "level": level, "beta": beta, "delta": delta, "loss": float(loss), "grad": flat(new.grad)})
golden["grpo"] = {"lengths": lengths, "new": flat(new), "old": flat(old), "ref": flat(ref), "advantages": numbers(adv), "cases": cases}

# Group advantages, ddof 1, epsilon 1e-4.
r = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5], [2.0, -1.0, 0.25, 3.0]], dtype=torch.float64)
centred = r - r.mean(1, keepdim=True)
golden["advantages"] = {"rewards": numbers(r), "group": numbers(centred / (r.std(1, keepdim=True) + 1e-4)),
                        "batch": numbers(centred / (r.std() + 1e-4)), "none": numbers(centred)}

# DPO.
pc = torch.tensor([-12.5, -30.0, -7.25], requires_grad=True); pr = torch.tensor([-14.0, -28.5, -9.0], requires_grad=True)
rc = torch.tensor([-13.0, -29.0, -7.5]); rr = torch.tensor([-13.5, -29.5, -8.0])
nc = torch.tensor([10.0, 22.0, 5.0]); nr = torch.tensor([12.0, 20.0, 6.0])
golden["dpo"] = []
for kind, smoothing in (("sigmoid", 0.0), ("sigmoid", 0.1), ("hinge", 0.0), ("ipo", 0.0)):
    pc.grad = pr.grad = None
    d = (pc - rc) - (pr - rr); beta = 0.3
    if kind == "sigmoid": l = -F.logsigmoid(beta * d) * (1 - smoothing) - F.logsigmoid(-beta * d) * smoothing
    elif kind == "hinge": l = torch.relu(1 - beta * d)
    else: l = ((pc - rc) / nc - (pr - rr) / nr - 1 / (2 * beta)) ** 2
    l.mean().backward()
    golden["dpo"].append({"loss_type": kind, "smoothing": smoothing, "loss": float(l.mean()), "grad_chosen": numbers(pc.grad), "grad_rejected": numbers(pr.grad)})

# Bradley-Terry with margin and centring.
c = torch.tensor([0.4, -0.2, 1.5], requires_grad=True); j = torch.tensor([0.1, 0.3, -0.5], requires_grad=True); m = torch.tensor([0.0, 0.5, 1.0])
l = -F.logsigmoid(c - j - m).mean() + 0.01 * ((c + j) ** 2).mean(); l.backward()
golden["bradley_terry"] = {"loss": float(l), "grad_chosen": numbers(c.grad), "grad_rejected": numbers(j.grad)}

# Schedules of transformers: 10 steps, 3 of warm-up.
golden["schedules"] = {}
for kind in ("linear", "cosine", "constant", "constant_with_warmup"):
    p = torch.nn.Parameter(torch.zeros(1)); o = torch.optim.SGD([p], lr=2.0)
    s = get_scheduler(kind, o, num_warmup_steps=3, num_training_steps=10); rates = []
    for _ in range(10): rates.append(o.param_groups[0]["lr"]); o.step(); s.step()
    golden["schedules"][kind] = rates

# AdamW: three steps on a matrix.
p = torch.nn.Parameter(torch.tensor([[0.5, -1.0], [2.0, 0.25]])); o = torch.optim.AdamW([p], lr=0.1, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.05)
for k in range(3):
    p.grad = torch.tensor([[0.1, -0.2], [0.3, 0.05]]) * (k + 1); o.step()
golden["adamw"] = numbers(p)
print(json.dumps(golden))
