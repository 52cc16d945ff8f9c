#include "libpolicy/models/gemm.h"

extern "C" void sgemm_(const char* transa, const char* transb, const int* m, const int* n,
                       const int* k, const float* alpha, const float* a, const int* lda,
                       const float* b, const int* ldb, const float* beta, float* c, const int* ldc);

// MKL's, inside LibTorch: threads of the calling thread's products; returns what it was.
extern "C" int MKL_Set_Num_Threads_Local(int num_threads);

namespace meed {

SerialGemm::SerialGemm() : before_(MKL_Set_Num_Threads_Local(1)) {}
SerialGemm::~SerialGemm() { MKL_Set_Num_Threads_Local(before_); }

namespace {

// Column-major BLAS computes C^T = op(B)^T op(A)^T.
void gemm(char trans_a, char trans_b, int64_t M, int64_t N, int64_t K, const float* A, int64_t lda,
          const float* B, int64_t ldb, float beta, float* C, int64_t ldc) {
  const int m = static_cast<int>(N), n = static_cast<int>(M), k = static_cast<int>(K);
  const int a = static_cast<int>(lda), b = static_cast<int>(ldb), c = static_cast<int>(ldc);
  const float one = 1.0f;
  sgemm_(&trans_b, &trans_a, &m, &n, &k, &one, B, &b, A, &a, &beta, C, &c);
}

}  // namespace

void sgemm_nn(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B,
              int64_t ldb, float beta, float* C, int64_t ldc) {
  gemm('n', 'n', M, N, K, A, lda, B, ldb, beta, C, ldc);
}
void sgemm_nt(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B,
              int64_t ldb, float beta, float* C, int64_t ldc) {
  gemm('n', 't', M, N, K, A, lda, B, ldb, beta, C, ldc);
}
void sgemm_tn(int64_t M, int64_t N, int64_t K, const float* A, int64_t lda, const float* B,
              int64_t ldb, float beta, float* C, int64_t ldc) {
  gemm('t', 'n', M, N, K, A, lda, B, ldb, beta, C, ldc);
}

}  // namespace meed
