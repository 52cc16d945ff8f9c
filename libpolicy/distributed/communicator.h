#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

namespace meed {

/// What a launcher tells a process: torchrun (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR,
/// MASTER_PORT), Slurm (SLURM_PROCID ...) or Open MPI (OMPI_COMM_WORLD_RANK ...). Without any: one
/// process, rank 0.
struct LaunchEnv {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  std::string master_addr = "127.0.0.1";
  int master_port = 29500;
  std::string launcher = "none";  ///< "torchrun", "slurm", "openmpi", "none"

  /// Throws ConfigError that names the variable if one is missing or not a number.
  static LaunchEnv from_environment();
};

enum class ReduceOp { kSum, kMean, kMin, kMax };

/// Processes that run the same collectives in the same order. Not thread-safe. With one process
/// every collective is the identity: callers never branch on size(). A dead or stuck peer is a
/// DistributedError within the timeout.
class Communicator {
 public:
  /// backend: "auto" (NCCL if `device` is CUDA, Gloo with more than one process, else single),
  /// "single", "gloo", "nccl".
  static std::unique_ptr<Communicator> create(const LaunchEnv& env, at::Device device,
                                              const std::string& backend = "auto",
                                              double timeout_s = 1800);
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  bool is_main() const { return rank() == 0; }

  virtual void all_reduce(at::Tensor& tensor, ReduceOp op) = 0;  ///< In place.
  virtual void broadcast(at::Tensor& tensor, int root) = 0;      ///< In place.
  virtual at::Tensor all_gather(const at::Tensor& tensor) = 0;   ///< [size, ...], by rank.
  virtual std::vector<std::string> all_gather(const std::string& bytes) = 0;
  virtual void barrier() = 0;
  /// Tells the others why this process goes, so that they stop at once with this cause. Never
  /// throws.
  virtual void abort(const std::string& reason) = 0;

  /// Ranks with the same colour form a group of their own, in the order of their ranks here.
  virtual std::unique_ptr<Communicator> split(int colour) = 0;
};

/// The tensor of each rank, by rank; sizes may differ in the first dimension, dtype and the other
/// dimensions must agree. CPU, no gradient. A collective.
std::vector<at::Tensor> all_gather_ragged(Communicator& comm, const at::Tensor& tensor);

}  // namespace meed
