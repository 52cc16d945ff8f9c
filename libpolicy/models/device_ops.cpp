#include "libpolicy/models/device_ops.h"

#include <ATen/ATen.h>

#include "libpolicy/models/fused_linear.h"

namespace meed::device {

at::Tensor norm_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        const NormSettings& settings, at::ScalarType dtype, at::Tensor* xhat,
                        at::Tensor* rstd) {
  const auto centred = settings.center ? x - x.mean(-1, /*keepdim=*/true) : x;
  const auto scale = (centred.square().mean(-1, /*keepdim=*/true) + settings.eps).rsqrt();
  const auto hat = centred * scale;
  if (xhat) *xhat = hat.to(dtype);
  if (rstd) *rstd = scale.flatten();
  auto y = hat * weight;
  if (bias.defined()) y.add_(bias);
  return y.to(dtype);
}

at::Tensor norm_output(const at::Tensor& xhat, const at::Tensor& weight, const at::Tensor& bias) {
  auto y = xhat.to(at::kFloat) * weight;
  if (bias.defined()) y.add_(bias);
  return y.to(xhat.scalar_type());
}

// dx += rstd (g - [mean g] - xhat mean(g xhat)), g = dy w.
void norm_backward(const at::Tensor& dy, const at::Tensor& xhat, const at::Tensor& rstd,
                   const at::Tensor& weight, const at::Tensor& bias, const NormSettings& settings,
                   const at::Tensor& dx) {
  const auto d = dy.to(at::kFloat), hat = xhat.to(at::kFloat);
  auto g = d * weight;
  const auto mean_gh = (g * hat).mean(-1, /*keepdim=*/true);
  if (settings.center) g = g - g.mean(-1, /*keepdim=*/true);
  dx.add_((g - hat * mean_gh) * rstd.unsqueeze(-1));
  if (weight.requires_grad()) accumulate_gradient(weight, (d * hat).sum(0));
  if (bias.defined() && bias.requires_grad()) accumulate_gradient(bias, d.sum(0));
}

void rotate(const at::Tensor& x, int64_t heads, int64_t head_dim, const at::Tensor& cosine,
            const at::Tensor& sine, float sign) {
  const auto halves = x.narrow(1, 0, heads * head_dim).view({x.size(0), heads, 2, head_dim / 2});
  const auto a = halves.select(2, 0).to(at::kFloat, /*non_blocking=*/false, /*copy=*/true),
             b = halves.select(2, 1).to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  const auto c = cosine.unsqueeze(1), s = (sine * sign).unsqueeze(1);
  halves.select(2, 0).copy_(a * c - b * s);
  halves.select(2, 1).copy_(b * c + a * s);
}

namespace {

at::Tensor activation(const at::Tensor& x, kernels::Activation kind) {
  if (kind == kernels::Activation::kSilu) return at::silu(x);
  return at::gelu(x, kind == kernels::Activation::kGelu ? "none" : "tanh");
}

at::Tensor activation_gradient(const at::Tensor& dy, const at::Tensor& x,
                               kernels::Activation kind) {
  if (kind == kernels::Activation::kSilu) return at::silu_backward(dy, x);
  return at::gelu_backward(dy, x, kind == kernels::Activation::kGelu ? "none" : "tanh");
}

}  // namespace

at::Tensor activate(const at::Tensor& in, bool gated, kernels::Activation kind) {
  if (!gated) return activation(in.to(at::kFloat), kind).to(in.scalar_type());
  const int64_t F = in.size(1) / 2;
  return activation(in.narrow(1, 0, F).to(at::kFloat), kind)
      .mul_(in.narrow(1, F, F))
      .to(in.scalar_type());
}

void activate_backward(const at::Tensor& in, const at::Tensor& dy, bool gated,
                       kernels::Activation kind) {
  const int64_t F = gated ? in.size(1) / 2 : in.size(1);
  const auto d = dy.to(at::kFloat);
  const auto gate = in.narrow(1, 0, F).to(at::kFloat);
  const auto y = activation(gate, kind);
  if (!gated) {
    in.copy_(activation_gradient(d, gate, kind));
    dy.copy_(y);
    return;
  }
  const auto up = in.narrow(1, F, F).to(at::kFloat);
  in.narrow(1, 0, F).copy_(activation_gradient(d * up, gate, kind));
  in.narrow(1, F, F).copy_(d * y);
  dy.copy_(y * up);
}

LogitStatistics logit_statistics(const at::Tensor& logits, const at::Tensor& targets, float scale,
                                 bool with_entropy) {
  const auto scaled = logits.to(at::kFloat) * scale;
  LogitStatistics out;
  out.lse = scaled.logsumexp(1);
  const auto target = scaled.gather(1, targets.unsqueeze(1)).squeeze(1);
  out.logprobs = target - out.lse;
  out.correct = target.eq(scaled.amax(1)).to(at::kFloat);
  if (with_entropy) {
    const auto logprobs = scaled - out.lse.unsqueeze(1);
    out.entropy = -(logprobs.exp() * logprobs).sum(1);
  }
  return out;
}

// d logprob / d x = scale (1[target] - p); d entropy / d x = -scale p (log p + entropy).
void logit_gradient(const at::Tensor& logits, const at::Tensor& targets, float scale,
                    const at::Tensor& lse, const at::Tensor& entropy, const at::Tensor& d_logprobs,
                    const at::Tensor& d_entropy) {
  const auto logp = (logits.to(at::kFloat) * scale).sub_(lse.unsqueeze(1));
  auto factor = at::zeros_like(lse).unsqueeze(1);
  if (d_logprobs.defined()) factor = factor - d_logprobs.unsqueeze(1);
  auto gradient = logp.exp();
  if (d_entropy.defined())
    gradient.mul_(factor - d_entropy.unsqueeze(1) * (logp + entropy.unsqueeze(1)));
  else
    gradient.mul_(factor);
  if (d_logprobs.defined()) gradient.scatter_add_(1, targets.unsqueeze(1), d_logprobs.unsqueeze(1));
  logits.copy_(gradient.mul_(scale));
}

}  // namespace meed::device
