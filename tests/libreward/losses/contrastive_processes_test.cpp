#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <sstream>

#include "libreward/losses/contrastive.h"
#include "tests/libpolicy/distributed/processes.h"

namespace meed {
namespace {

/// Value and gradients of a contrastive loss on rows that are dealt out over the ranks, as text.
std::string of_rank(Communicator& comm, bool swav) {
  constexpr int64_t kRows = 6, kWidth = 3;
  // Values of a formula: every process makes the same ones.
  const auto all =
      (at::arange(2 * kRows * kWidth, at::kDouble) * 1.7).sin().view({2, kRows, kWidth});
  const auto mine = at::arange(comm.rank(), kRows, comm.size(), at::kLong);
  const auto a = all[0].index_select(0, mine).set_requires_grad(true);
  const auto b = all[1].index_select(0, mine).set_requires_grad(true);
  const auto prototypes =
      (at::arange(4 * kWidth, at::kDouble) * 0.9).cos().view({4, kWidth}).set_requires_grad(true);
  const auto output = swav ? swav_loss(a, b, prototypes, 0.3, kRows, 3, 0.05, &comm)
                           : info_nce_loss(a, b, 0.3, kRows, &comm);
  output.loss.backward();
  // Sums that tell the rows apart: the gradient of row i weighed by i + 1.
  const auto weights = (mine + 1).to(at::kDouble).unsqueeze(1);
  auto sums = at::stack({output.loss.detach(), (a.grad() * weights).sum(),
                         (b.grad() * weights).square().sum(),
                         swav ? prototypes.grad().sum() : at::zeros({}, at::kDouble)});
  comm.all_reduce(sums, ReduceOp::kSum);
  std::string text;
  for (int64_t i = 0; i < sums.numel(); ++i) {
    char number[40];
    std::snprintf(number, sizeof number, "%.12f ", sums[i].item<double>() + 0.0);
    text += number;
  }
  return text;
}

TEST(Contrastive, NegativesAreGatheredAndLossAndGradientsAreThoseOfOneProcess) {
  for (const bool swav : {false, true}) {
    const auto one =
        testing::run_processes(1, [&](Communicator& comm) { return of_rank(comm, swav); });
    const auto two =
        testing::run_processes(2, [&](Communicator& comm) { return of_rank(comm, swav); });
    for (const auto& result : two) {
      ASSERT_EQ(result.exit_code, 0) << result.output;
      std::istringstream a(one[0].output), b(result.output);
      double x = 0.0, y = 0.0;
      int count = 0;
      for (; a >> x && b >> y; ++count) EXPECT_NEAR(x, y, 1e-10) << swav << " number " << count;
      EXPECT_EQ(count, 4);
    }
  }
}

}  // namespace
}  // namespace meed
