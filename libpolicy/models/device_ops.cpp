#include "libpolicy/models/device_ops.h"

#include <ATen/ATen.h>

#include "libpolicy/core/cuda_library.h"
#include "libpolicy/core/error.h"
#include "libpolicy/cuda/row_kernels.h"
#include "libpolicy/models/fused_linear.h"

namespace meed::device {
namespace {

/// libmeed_cuda.so's kernels for a tensor on a GPU, null for any other: ATen's operations then.
const cuda::RowKernels* kernels_for(const at::Tensor& tensor) {
  if (!tensor.is_cuda()) return nullptr;
  using Export = const cuda::RowKernels* (*)();
  static const auto* const kernels =
      reinterpret_cast<Export>(cuda_symbol("meed_row_kernels", "a model on a GPU"))();
  return kernels;
}

cuda::Type type_of(at::ScalarType dtype) {
  MEED_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "float32 or bfloat16 expected");
  return dtype == at::kFloat ? cuda::Type::kFloat : cuda::Type::kBf16;
}

float* floats(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.data_ptr<float>() : nullptr;
}
const float* const_floats(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr<float>() : nullptr;
}

}  // namespace

at::Tensor norm_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        const NormSettings& settings, at::ScalarType dtype, at::Tensor* xhat,
                        at::Tensor* rstd) {
  if (const auto* kernels = kernels_for(x)) {
    const int64_t D = weight.numel(), n = x.numel() / D;
    const auto y = at::empty(x.sizes(), x.options().dtype(dtype)),
               scale = at::empty({n}, x.options());
    if (xhat) *xhat = at::empty(x.sizes(), y.options());
    if (rstd) *rstd = scale;
    kernels->norm(type_of(dtype), const_floats(x), n, D, const_floats(weight), const_floats(bias),
                  static_cast<float>(settings.eps), settings.center,
                  xhat ? xhat->data_ptr() : nullptr, floats(scale), y.data_ptr());
    return y;
  }
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
  if (const auto* kernels = kernels_for(xhat)) {
    const auto y = at::empty_like(xhat);
    kernels->norm_output(type_of(xhat.scalar_type()), xhat.const_data_ptr(),
                         xhat.numel() / weight.numel(), weight.numel(), const_floats(weight),
                         const_floats(bias), y.data_ptr());
    return y;
  }
  auto y = xhat.to(at::kFloat) * weight;
  if (bias.defined()) y.add_(bias);
  return y.to(xhat.scalar_type());
}

// dx += rstd (g - [mean g] - xhat mean(g xhat)), g = dy w.
void norm_backward(const at::Tensor& dy, const at::Tensor& xhat, const at::Tensor& rstd,
                   const at::Tensor& weight, const at::Tensor& bias, const NormSettings& settings,
                   const at::Tensor& dx) {
  const bool with_weight = weight.requires_grad(),
             with_bias = bias.defined() && bias.requires_grad();
  if (const auto* kernels = kernels_for(dx)) {
    const int64_t D = weight.numel();
    const auto partial = [&](bool wanted) {
      return wanted ? at::zeros({cuda::kNormWarps, D}, dx.options()) : at::Tensor();
    };
    const auto d_weight = partial(with_weight), d_bias = partial(with_bias);
    kernels->norm_backward(type_of(xhat.scalar_type()), dy.const_data_ptr(), xhat.const_data_ptr(),
                           const_floats(rstd), rstd.numel(), D, const_floats(weight),
                           settings.center, floats(dx), floats(d_weight), floats(d_bias));
    if (with_weight) accumulate_gradient(weight, d_weight.sum(0));
    if (with_bias) accumulate_gradient(bias, d_bias.sum(0));
    return;
  }
  const auto d = dy.to(at::kFloat), hat = xhat.to(at::kFloat);
  auto g = d * weight;
  const auto mean_gh = (g * hat).mean(-1, /*keepdim=*/true);
  if (settings.center) g = g - g.mean(-1, /*keepdim=*/true);
  dx.add_((g - hat * mean_gh) * rstd.unsqueeze(-1));
  if (with_weight) accumulate_gradient(weight, (d * hat).sum(0));
  if (with_bias) accumulate_gradient(bias, d.sum(0));
}

void rotate(const at::Tensor& x, int64_t heads, int64_t head_dim, const at::Tensor& cosine,
            const at::Tensor& sine, float sign) {
  if (const auto* kernels = kernels_for(x))
    return kernels->rope(type_of(x.scalar_type()), x.data_ptr(), x.size(0), x.size(1), heads,
                         head_dim / 2, const_floats(cosine), const_floats(sine), sign);
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
  if (const auto* kernels = kernels_for(in)) {
    const int64_t columns = gated ? in.size(1) / 2 : in.size(1);
    const auto y = at::empty({in.size(0), columns}, in.options());
    kernels->activate(type_of(in.scalar_type()), in.const_data_ptr(), in.size(0), columns, gated,
                      static_cast<int>(kind), y.data_ptr());
    return y;
  }
  if (!gated) return activation(in.to(at::kFloat), kind).to(in.scalar_type());
  const int64_t F = in.size(1) / 2;
  return activation(in.narrow(1, 0, F).to(at::kFloat), kind)
      .mul_(in.narrow(1, F, F))
      .to(in.scalar_type());
}

void activate_backward(const at::Tensor& in, const at::Tensor& dy, bool gated,
                       kernels::Activation kind) {
  const int64_t F = gated ? in.size(1) / 2 : in.size(1);
  if (const auto* kernels = kernels_for(in))
    return kernels->activate_backward(type_of(in.scalar_type()), in.data_ptr(), dy.data_ptr(),
                                      in.size(0), F, gated, static_cast<int>(kind));
  const auto d = dy.to(at::kFloat);
  const auto gate = in.narrow(1, 0, F).to(at::kFloat);
  const auto y = activation(gate, kind);
  if (!gated) {
    in.copy_(activation_gradient(d, gate, kind));
    dy.copy_(y);
    return;
  }
  const auto up = in.narrow(1, F, F).to(at::kFloat);
  // All three before the first is written: in float32 the names above are views.
  const auto d_gate = activation_gradient(d * up, gate, kind), d_up = d * y, out = y * up;
  in.narrow(1, 0, F).copy_(d_gate);
  in.narrow(1, F, F).copy_(d_up);
  dy.copy_(out);
}

LogitStatistics logit_statistics(const at::Tensor& logits, const at::Tensor& targets, float scale,
                                 bool with_entropy) {
  if (const auto* kernels = kernels_for(logits)) {
    const auto row = [&] {
      return at::empty({logits.size(0)}, logits.options().dtype(at::kFloat));
    };
    LogitStatistics out{row(), row(), row(), with_entropy ? row() : at::Tensor()};
    kernels->logit_statistics(type_of(logits.scalar_type()), logits.const_data_ptr(),
                              logits.size(0), logits.size(1), targets.const_data_ptr<int64_t>(),
                              scale, floats(out.logprobs), floats(out.lse), floats(out.correct),
                              floats(out.entropy));
    return out;
  }
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
  if (const auto* kernels = kernels_for(logits))
    return kernels->logit_gradient(type_of(logits.scalar_type()), logits.data_ptr(), logits.size(0),
                                   logits.size(1), targets.const_data_ptr<int64_t>(), scale,
                                   const_floats(lse), const_floats(entropy),
                                   const_floats(d_logprobs), const_floats(d_entropy));
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
