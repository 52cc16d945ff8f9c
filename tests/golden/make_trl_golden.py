#!/usr/bin/env python3
"""Golden values of TRL 1.16's own GRPO and DPO losses: its trainers' _compute_loss is called on given tensors.

usage: make_trl_golden.py > trl_losses.json
The model is a stand-in that returns log-probabilities which require gradients; everything after it is TRL's code.
"""
import json
import types
import warnings
from collections import defaultdict

import torch
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer

warnings.filterwarnings("ignore")
torch.manual_seed(1)


class Accelerator:
    num_processes, sync_gradients, device = 1, True, torch.device("cpu")
    def gather(self, x): return x if x.dim() else x[None]
    gather_for_metrics = gather
    def reduce(self, x, reduction="sum"): return x
    def pad_across_processes(self, x, dim=0, pad_index=0): return x


def numbers(t): return [round(float(x), 7) for x in t.detach().flatten()]


def grpo():
    lengths = [6, 3, 5, 1, 4]
    B, T = len(lengths), max(lengths)
    mask = torch.zeros(B, T)
    for i, n in enumerate(lengths): mask[i, :n] = 1
    old = -torch.rand(B, T) * 2
    new = (old + 0.5 * torch.randn(B, T)).requires_grad_()
    ref = old + 0.3 * torch.randn(B, T)
    sampling = old + 0.4 * torch.randn(B, T)
    entropy = torch.rand(B, T).requires_grad_()
    advantages = torch.tensor([1.2, -0.7, 0.3, -1.1, 0.0])
    flat = lambda x: numbers(x[mask.bool()])
    cases = []

    def case(**changes):
        options = dict(loss_type="dapo", level="token", beta=0.0, delta=None, epsilon=0.2, epsilon_high=0.28, bias_correction=True,
                       threshold=None, entropy_coef=0.0, quantile=1.0, mode=None)
        options.update(changes)
        o = types.SimpleNamespace(**options)
        args = types.SimpleNamespace(use_bias_correction_kl=o.bias_correction, delta=o.delta, sapo_temperature_pos=1.0, sapo_temperature_neg=1.05,
                                     vespo_k_pos=2.0, vespo_lambda_pos=3.0, vespo_k_neg=3.0, vespo_lambda_neg=2.0, steps_per_generation=1)
        trainer = types.SimpleNamespace(
            top_entropy_quantile=o.quantile, off_policy_mask_threshold=o.threshold, importance_sampling_level=o.level, beta=o.beta, args=args,
            epsilon_low=o.epsilon, epsilon_high=o.epsilon_high, loss_type=o.loss_type, use_vllm=o.mode is not None,
            vllm_importance_sampling_correction=o.mode is not None, model=types.SimpleNamespace(training=True), current_gradient_accumulation_steps=1,
            max_completion_length=16, accelerator=Accelerator(), _entropy_bonus_enabled=o.entropy_coef != 0, use_adaptive_entropy=False,
            entropy_coef=o.entropy_coef, aux_loss_enabled=False, _metrics={"train": defaultdict(list)},
            _get_per_token_logps_and_entropies=lambda *a, **k: (new, entropy, None),
            get_off_policy_mask=GRPOTrainer.get_off_policy_mask, get_gamma_weights=GRPOTrainer.get_gamma_weights)
        trainer.get_high_entropy_mask = types.MethodType(GRPOTrainer.get_high_entropy_mask, trainer)
        inputs = dict(prompt_ids=torch.zeros(B, 1, dtype=torch.long), prompt_mask=torch.ones(B, 1), completion_ids=torch.zeros(B, T, dtype=torch.long),
                      completion_mask=mask, advantages=advantages, old_per_token_logps=old, ref_per_token_logps=ref, num_items_in_batch=mask.sum())
        if o.mode:
            difference = (old - sampling) * mask
            ratio = torch.exp(difference.sum(-1, keepdim=True) if o.mode.startswith("sequence") else difference)
            ratio = ratio.clamp(0.7, 1.3) if o.mode.endswith("truncate") else ratio.masked_fill((ratio < 0.7) | (ratio > 1.3), 0.0)
            inputs.update(sampling_per_token_logps=sampling, importance_sampling_ratio=ratio)
        new.grad = entropy.grad = None
        loss = GRPOTrainer._compute_loss(trainer, None, inputs)
        loss.backward()
        metrics = {k: round(v[-1], 7) for k, v in trainer._metrics["train"].items() if k not in ("entropy", "entropy_coef")}
        high = None
        if o.quantile < 1: high = flat(trainer.get_high_entropy_mask(entropy, mask, 1 - o.quantile).float())
        cases.append({**options, "loss": float(loss), "gradient": flat(new.grad), "entropy_mask": high,
                      "entropy_gradient": flat(entropy.grad) if entropy.grad is not None else None, "metrics": metrics})

    for loss_type in ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"):
        high = 1.4 if loss_type == "cispo" else 0.28
        for level in ("token", "sequence"):
            case(loss_type=loss_type, level=level, epsilon_high=high)
            case(loss_type=loss_type, level=level, epsilon_high=high, beta=0.05, delta=1.5)
        case(loss_type=loss_type, epsilon_high=high, beta=0.05, bias_correction=False, threshold=0.1)
        case(loss_type=loss_type, epsilon_high=high, entropy_coef=0.01, quantile=0.4)
        for mode in ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"):
            case(loss_type=loss_type, epsilon_high=high, mode=mode, threshold=0.2)
    return {"lengths": lengths, "new": flat(new), "old": flat(old), "ref": flat(ref), "sampling": flat(sampling), "entropy": flat(entropy),
            "advantages": numbers(advantages), "cases": cases}


def dpo():
    # Chosen rows, then rejected rows; a prompt of two tokens before each completion.
    lengths = [4, 2, 6, 3, 5, 1, 3, 6]
    B, T = len(lengths), 2 + max(lengths)
    mask = torch.zeros(B, T, dtype=torch.long)
    for i, n in enumerate(lengths): mask[i, 2:2 + n] = 1
    shifted = mask[:, 1:].bool()
    policy = ((-torch.rand(B, T - 1) * 2) * shifted).requires_grad_()
    reference = (policy.detach() + 0.5 * torch.randn(B, T - 1)) * shifted
    sum_squares = (-torch.rand(B, T - 1)) * shifted
    flat = lambda x: [numbers(row[m]) for row, m in zip(x, shifted)]
    cases = []

    def outputs(log_probs):
        zeros = torch.zeros(B, T - 1)
        return types.SimpleNamespace(log_probs=log_probs, log_sum_sq_probs=sum_squares, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())

    def case(**changes):
        options = dict(loss_type=["sigmoid"], loss_weights=[1.0], beta=0.3, label_smoothing=0.0, f_divergence_type="reverse_kl",
                       f_alpha_divergence_coef=0.5, ld_alpha=None, use_weighting=False, discopop_tau=0.05)
        options.update(changes)
        o = types.SimpleNamespace(**options)
        model = lambda **k: outputs(policy)
        trainer = types.SimpleNamespace(
            model=types.SimpleNamespace(training=True), accelerator=Accelerator(), aux_loss_enabled=False, ld_alpha=o.ld_alpha,
            precompute_ref_logps=False, args=types.SimpleNamespace(gradient_checkpointing=False, gradient_checkpointing_kwargs=None, discopop_tau=o.discopop_tau),
            ref_model=lambda **k: outputs(reference), f_divergence_type=o.f_divergence_type, f_alpha_divergence_coef=o.f_alpha_divergence_coef,
            loss_types=o.loss_type, loss_weights=o.loss_weights, beta=o.beta, label_smoothing=o.label_smoothing, use_weighting=o.use_weighting,
            _metrics={"train": defaultdict(list)}, _total_train_tokens=0, _tp_size=1)
        import trl.trainer.dpo_trainer as module
        module.is_peft_model = lambda m: False
        module.disable_gradient_checkpointing = lambda *a: __import__("contextlib").nullcontext()
        policy.grad = None
        inputs = dict(input_ids=torch.zeros(B, T, dtype=torch.long), attention_mask=torch.ones(B, T), completion_mask=mask)
        loss = DPOTrainer._compute_loss(trainer, model, inputs, False)
        loss.backward()
        wanted = ("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected")
        cases.append({**options, "loss": float(loss), "gradient": flat(policy.grad),
                      "metrics": {k: round(trainer._metrics["train"][k][-1], 7) for k in wanted}})

    for kind in ("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down",
                 "discopop", "sft", "sigmoid_norm"):
        smoothing = 0.1 if kind in ("exo_pair", "robust", "aot", "aot_unpaired") else 0.0
        case(loss_type=[kind], label_smoothing=smoothing)
        case(loss_type=[kind], label_smoothing=smoothing, ld_alpha=0.4)
    for divergence in ("forward_kl", "js_divergence", "alpha_divergence"):
        for kind in ("sigmoid", "hinge", "ipo", "sigmoid_norm", "discopop"):
            case(loss_type=[kind], f_divergence_type=divergence)
    case(use_weighting=True)
    case(loss_type=["sigmoid", "bco_pair", "sft"], loss_weights=[0.8, 0.2, 1.0])
    return {"lengths": lengths, "policy": flat(policy), "reference": flat(reference), "log_sum_sq": flat(sum_squares), "cases": cases}


def rounded(x):
    if isinstance(x, float): return round(x, 8)
    if isinstance(x, dict): return {k: rounded(v) for k, v in x.items()}
    if isinstance(x, list): return [rounded(v) for v in x]
    return x


print(json.dumps(rounded({"grpo": grpo(), "dpo": dpo()})))
