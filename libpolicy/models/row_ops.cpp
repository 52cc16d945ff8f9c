#include "libpolicy/models/row_ops.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "libpolicy/core/error.h"
#include "libpolicy/models/device_ops.h"
#include "libpolicy/models/fused_linear.h"

namespace meed {
namespace {

using kernels::Bf16;

constexpr int64_t kGrainRows = 16;

template <typename T>
T* data(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<T*>(tensor.data_ptr()) : nullptr;
}

/// Calls body(T{}) with T by dtype.
template <typename Body>
void dispatch(at::ScalarType dtype, const Body& body) {
  MEED_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "float32 or bfloat16 expected");
  if (dtype == at::kFloat)
    body(float{});
  else
    body(Bf16{});
}

kernels::NormArgs arguments(const at::Tensor& weight, const at::Tensor& bias,
                            const NormSettings& settings) {
  return {.weight = data<const float>(weight),
          .bias = data<const float>(bias),
          .D = static_cast<long>(weight.numel()),
          .eps = static_cast<float>(settings.eps),
          .center = settings.center};
}

}  // namespace

at::Tensor norm_forward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        const NormSettings& settings, at::ScalarType dtype, at::Tensor* xhat,
                        at::Tensor* rstd) {
  if (!x.is_cpu()) return device::norm_forward(x, weight, bias, settings, dtype, xhat, rstd);
  const auto args = arguments(weight, bias, settings);
  const int64_t n = x.numel() / args.D;
  const auto y = at::empty(x.sizes(), x.options().dtype(dtype));
  if (xhat) *xhat = at::empty(x.sizes(), y.options());
  const auto scale = at::empty({n}, at::kFloat);
  if (rstd) *rstd = scale;
  dispatch(dtype, [&](auto type) {
    using T = decltype(type);
    T* hat = xhat ? data<T>(*xhat) : nullptr;
    at::parallel_for(0, n, kGrainRows, [&](int64_t begin, int64_t end) {
      kernels::norm(data<float>(x) + begin * args.D, end - begin, args,
                    hat ? hat + begin * args.D : nullptr, data<float>(scale) + begin,
                    data<T>(y) + begin * args.D);
    });
  });
  return y;
}

at::Tensor norm_output(const at::Tensor& xhat, const at::Tensor& weight, const at::Tensor& bias) {
  if (!xhat.is_cpu()) return device::norm_output(xhat, weight, bias);
  const auto args = arguments(weight, bias, {});
  const auto y = at::empty_like(xhat);
  dispatch(xhat.scalar_type(), [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, xhat.numel() / args.D, kGrainRows, [&](int64_t begin, int64_t end) {
      kernels::norm_output(data<T>(xhat) + begin * args.D, end - begin, args,
                           data<T>(y) + begin * args.D);
    });
  });
  return y;
}

void norm_backward(const at::Tensor& dy, const at::Tensor& xhat, const at::Tensor& rstd,
                   const at::Tensor& weight, const at::Tensor& bias, const NormSettings& settings,
                   const at::Tensor& dx) {
  if (!dx.is_cpu()) return device::norm_backward(dy, xhat, rstd, weight, bias, settings, dx);
  const auto args = arguments(weight, bias, settings);
  const bool with_weight = weight.requires_grad(),
             with_bias = bias.defined() && bias.requires_grad();
  const int64_t n = rstd.numel(), threads = at::get_num_threads();
  const auto partial = at::zeros({2, threads, static_cast<int64_t>(args.D)}, at::kFloat);
  dispatch(xhat.scalar_type(), [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, n, kGrainRows, [&](int64_t begin, int64_t end) {
      float* dw = data<float>(partial) + at::get_thread_num() * args.D;
      kernels::norm_backward(data<T>(dy) + begin * args.D, data<T>(xhat) + begin * args.D,
                             data<float>(rstd) + begin, end - begin, args,
                             data<float>(dx) + begin * args.D, with_weight ? dw : nullptr,
                             with_bias ? dw + threads * args.D : nullptr);
    });
  });
  if (with_weight) accumulate_gradient(weight, partial[0].sum(0));
  if (with_bias) accumulate_gradient(bias, partial[1].sum(0));
}

void add_rows(const at::Tensor& x, const at::Tensor& y) {
  if (!x.is_cpu()) {
    x.add_(y);
    return;
  }
  dispatch(y.scalar_type(), [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, x.numel(), kGrainRows * 1024, [&](int64_t begin, int64_t end) {
      kernels::accumulate(data<T>(y) + begin, end - begin, data<float>(x) + begin);
    });
  });
}

at::Tensor to_compute(const at::Tensor& x, at::ScalarType dtype) {
  if (dtype == at::kFloat || !x.is_cpu()) return x.to(dtype);
  const auto y = at::empty(x.sizes(), x.options().dtype(dtype));
  at::parallel_for(0, x.numel(), kGrainRows * 1024, [&](int64_t begin, int64_t end) {
    kernels::convert(data<float>(x) + begin, end - begin, 1.0f, data<Bf16>(y) + begin);
  });
  return y;
}

void rotate(const at::Tensor& x, int64_t heads, int64_t head_dim, const at::Tensor& cosine,
            const at::Tensor& sine, float sign) {
  if (!x.is_cpu()) return device::rotate(x, heads, head_dim, cosine, sine, sign);
  const int64_t stride = x.size(1), half = head_dim / 2;
  dispatch(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, x.size(0), kGrainRows, [&](int64_t begin, int64_t end) {
      kernels::rope(data<T>(x) + begin * stride, end - begin, stride, heads, half,
                    data<float>(cosine) + begin * half, data<float>(sine) + begin * half, sign);
    });
  });
}

at::Tensor activate(const at::Tensor& in, bool gated, kernels::Activation kind) {
  if (!in.is_cpu()) return device::activate(in, gated, kind);
  const int64_t columns = in.size(1), F = gated ? columns / 2 : columns;
  const auto y = at::empty({in.size(0), F}, in.options());
  dispatch(in.scalar_type(), [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, in.size(0), kGrainRows, [&](int64_t begin, int64_t end) {
      kernels::activate(data<T>(in) + begin * columns, end - begin, F, gated, kind,
                        data<T>(y) + begin * F);
    });
  });
  return y;
}

void activate_backward(const at::Tensor& in, const at::Tensor& dy, bool gated,
                       kernels::Activation kind) {
  if (!in.is_cpu()) return device::activate_backward(in, dy, gated, kind);
  const int64_t columns = in.size(1), F = gated ? columns / 2 : columns;
  dispatch(in.scalar_type(), [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, in.size(0), kGrainRows, [&](int64_t begin, int64_t end) {
      kernels::activate_backward(data<T>(in) + begin * columns, data<T>(dy) + begin * F,
                                 end - begin, F, gated, kind);
    });
  });
}

}  // namespace meed
