#pragma once

#include <cstdint>

namespace meed {

/// Row-major single-precision products C = A B (nn), A B^T (nt), A^T B (tn), plus beta C, through
/// the BLAS that LibTorch carries, without a tensor around them: for blocks inside a parallel
/// region. C is [M, N], the inner dimension K; ld: row lengths in memory.
void sgemm_nn(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B,
              int64_t ldb, float beta, float* C, int64_t ldc);
void sgemm_nt(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B,
              int64_t ldb, float beta, float* C, int64_t ldc);
void sgemm_tn(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B,
              int64_t ldb, float beta, float* C, int64_t ldc);

/// While it lives, products of this thread use this thread alone: small ones called from a parallel
/// region, where waking the others costs more than the product.
class SerialGemm {
 public:
  SerialGemm();
  ~SerialGemm();
  SerialGemm(const SerialGemm&) = delete;
  SerialGemm& operator=(const SerialGemm&) = delete;

 private:
  int before_;
};

}  // namespace meed
