#include <ATen/ATen.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>
#include <thread>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "libpolicy/core/error.h"
#include "libpolicy/core/log.h"
#include "libpolicy/distributed/process_group.h"

namespace meed {
namespace {

using Milliseconds = std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr Milliseconds kBeat(500);
constexpr auto kSilence = std::chrono::seconds(20);  // a rank that says nothing for so long is dead
constexpr Milliseconds kMissedBeats(2000);           // enough once a connection has broken
constexpr const char* kCauseKey = "meed/cause";
constexpr const char* kBye = "bye";

std::string beat_key(int rank) { return "meed/beat/" + std::to_string(rank); }

std::vector<uint8_t> bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

c10d::ReduceOp convert(ReduceOp op) {
  switch (op) {
    case ReduceOp::kMin:
      return c10d::ReduceOp::MIN;
    case ReduceOp::kMax:
      return c10d::ReduceOp::MAX;
    default:
      return c10d::ReduceOp::SUM;
  }
}

/// What a failing torchrun worker leaves for its agent to print.
void write_error_file(const std::string& reason) {
  const char* path = std::getenv("TORCHELASTIC_ERROR_FILE");
  if (path == nullptr) return;
  std::string escaped;
  for (const char c : reason) {
    if (c == '"' || c == '\\') escaped += '\\';
    escaped += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  std::ofstream(path) << "{\"message\": \"" << escaped << "\"}\n";
}

/// A connection to the store of its own (a store's client is locked while it waits, which would
/// silence the heartbeat), and a thread that tells the others this one lives and hears of those
/// that failed. tell(), cause(), quiet_rank() and failed() may be called at the same time as the
/// thread runs.
class Watch {
 public:
  /// `hosts_store`: the store goes with this process, which therefore leaves last.
  Watch(c10::intrusive_ptr<c10d::Store> store, int rank, int size, bool hosts_store)
      : store_(std::move(store)),
        rank_(rank),
        size_(size),
        hosts_store_(hosts_store),
        listen_every_(std::max(1, size / 16)),  // every rank asks for every other: spare the store
        beats_(static_cast<size_t>(size), kNoBeat),
        heard_(static_cast<size_t>(size), Clock::now()) {
    thread_ = std::thread([this] { run(); });
  }
  ~Watch() {
    done_ = true;
    thread_.join();
    leave();
  }

  /// Why a collective failed, if another rank left word of it or fell silent.
  std::string cause() {
    const std::lock_guard lock(mutex_);
    return cause_;
  }

  /// Silence that speaks for a death once a connection has broken.
  Clock::duration quiet_limit() const { return kMissedBeats + 2 * listen_every_ * kBeat; }

  /// The rank that has been silent for longest, if for more than quiet_limit(); -1: none.
  int quiet_rank() {
    const std::lock_guard lock(mutex_);
    int quietest = -1;
    for (int other = 0; other < size_; ++other) {
      const auto slot = static_cast<size_t>(other);
      if (other == rank_ || beats_[slot] == kNoBeat || Clock::now() - heard_[slot] <= quiet_limit())
        continue;
      if (quietest < 0 || heard_[slot] < heard_[static_cast<size_t>(quietest)]) quietest = other;
    }
    return quietest;
  }

  void tell(const std::string& reason) noexcept {
    try {
      if (!store_->check({kCauseKey}))
        store_->set(kCauseKey, bytes_of("rank " + std::to_string(rank_) + ": " + reason));
    } catch (...) {  // the store is gone: there is nobody left to tell
    }
  }

  /// Another rank failed or fell silent.
  bool failed() const { return failed_; }

 private:
  static constexpr int64_t kNoBeat = -1;
  static constexpr const char* kByeKey = "meed/bye";

  void run() {
    auto last = Clock::now();
    for (int64_t count = 0; !done_; ++count) {
      try {
        store_->set(beat_key(rank_), bytes_of(std::to_string(count)));
        if (store_->check({kCauseKey})) fail(read(kCauseKey));
        const auto now = Clock::now();
        // After a sleep of this process (SIGSTOP, a laptop's lid) nobody was listened to.
        if (now - last > 4 * kBeat) {
          const std::lock_guard lock(mutex_);
          std::fill(heard_.begin(), heard_.end(), now);
        }
        last = now;
        if (count % listen_every_ == 0) listen();
      } catch (const std::exception&) {
        if (!done_) fail("the process that hosts the store (rank 0 or the launcher) has gone");
      }
      for (int i = 0; i < 10 && !done_; ++i) std::this_thread::sleep_for(kBeat / 10);
    }
  }

  std::string read(const std::string& key) {
    const auto bytes = store_->get(key);
    return {bytes.begin(), bytes.end()};
  }

  void fail(const std::string& cause) {
    const std::lock_guard lock(mutex_);
    if (cause_.empty()) cause_ = cause;
    failed_ = true;
  }

  void listen() {
    for (int other = 0; other < size_; ++other) {
      const auto slot = static_cast<size_t>(other);
      if (other == rank_ || !store_->check({beat_key(other)})) continue;
      const std::string text = read(beat_key(other));
      const std::unique_lock lock(mutex_);
      const int64_t beat = text == kBye ? kNoBeat : std::atoll(text.c_str());
      if (beat != beats_[slot]) {
        beats_[slot] = beat;
        heard_[slot] = Clock::now();
      } else if (beat != kNoBeat && Clock::now() - heard_[slot] > kSilence && cause_.empty()) {
        cause_ = "rank " + std::to_string(other) + " has died or hangs (no sign of life for " +
                 std::to_string(kSilence.count()) + " s)";
        failed_ = true;
      }
    }
  }

  /// Says goodbye; the store's host waits a little for the others, who may still have to read why
  /// it goes.
  void leave() noexcept {
    try {
      store_->set(beat_key(rank_), bytes_of(kBye));
      store_->add(kByeKey, 1);
      const auto until = Clock::now() + 6 * kBeat;
      while (hosts_store_ && store_->add(kByeKey, 0) < size_ && Clock::now() < until)
        std::this_thread::sleep_for(kBeat / 50);
    } catch (...) {  // the store is gone, and with it the others
    }
  }

  c10::intrusive_ptr<c10d::Store> store_;
  const int rank_, size_;
  const bool hosts_store_;
  const int listen_every_;  // beats
  std::atomic<bool> done_ = false, failed_ = false;
  std::mutex mutex_;  // of the following
  std::vector<int64_t> beats_;
  std::vector<Clock::time_point> heard_;
  std::string cause_;
  std::thread thread_;
};

class ProcessGroupCommunicator final : public Communicator {
 public:
  ProcessGroupCommunicator(const GroupMaker& make_group, at::Device device,
                           c10::intrusive_ptr<c10d::Store> store, std::shared_ptr<Watch> watch,
                           std::string prefix, int rank, int size, double timeout_s)
      : make_group_(make_group),
        device_(device),
        store_(std::move(store)),
        watch_(std::move(watch)),
        prefix_(std::move(prefix)),
        rank_(rank),
        size_(size),
        timeout_(static_cast<int64_t>(timeout_s * 1000)),
        group_(make_group_(c10::make_intrusive<c10d::PrefixStore>(prefix_, store_), rank_, size_,
                           timeout_)) {}

  ~ProcessGroupCommunicator() override {
    // The group's destructor waits for collectives that are under way; with a peer that hangs that
    // is the whole timeout. This process is about to end: it leaves the group to the system.
    if (broken_) {
      (void)group_.release();
      return;
    }
    try {
      if (device_.is_cuda()) group_->shutdown();  // NCCL wants to be told
    } catch (const std::exception& e) {
      log_warn(std::string("closing NCCL: ") + e.what());
    }
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void all_reduce(at::Tensor& tensor, ReduceOp op) override {
    std::vector<at::Tensor> tensors = {tensor.to(device_).contiguous()};
    c10d::AllreduceOptions options;
    options.reduceOp = convert(op);
    wait("all_reduce", [&] { return group_->allreduce(tensors, options); });
    if (op == ReduceOp::kMean) tensors[0].div_(size_);
    if (!tensors[0].is_same(tensor)) tensor.copy_(tensors[0]);
  }

  void broadcast(at::Tensor& tensor, int root) override {
    std::vector<at::Tensor> tensors = {tensor.to(device_).contiguous()};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    wait("broadcast", [&] { return group_->broadcast(tensors, options); });
    if (!tensors[0].is_same(tensor)) tensor.copy_(tensors[0]);
  }

  at::Tensor all_gather(const at::Tensor& tensor) override {
    std::vector<at::Tensor> inputs = {tensor.to(device_).contiguous()};
    std::vector<std::vector<at::Tensor>> outputs(1);
    for (int i = 0; i < size_; ++i) outputs[0].push_back(at::empty_like(inputs[0]));
    wait("all_gather", [&] { return group_->allgather(outputs, inputs); });
    return at::stack(outputs[0]).to(tensor.device());
  }

  std::vector<std::string> all_gather(const std::string& bytes) override {
    const auto lengths = all_gather(at::full({1}, static_cast<int64_t>(bytes.size()), at::kLong));
    at::Tensor padded = at::zeros({std::max<int64_t>(1, lengths.max().item<int64_t>())}, at::kByte);
    std::memcpy(padded.data_ptr(), bytes.data(), bytes.size());
    const auto gathered = all_gather(padded).contiguous();
    std::vector<std::string> all;
    for (int i = 0; i < size_; ++i)
      all.emplace_back(static_cast<const char*>(gathered[i].data_ptr()),
                       static_cast<size_t>(lengths[i][0].item<int64_t>()));
    return all;
  }

  void barrier() override {
    wait("barrier", [&] { return group_->barrier(); });
  }

  void abort(const std::string& reason) override {
    watch_->tell(reason);
    write_error_file(reason);
  }

  std::unique_ptr<Communicator> split(int colour) override {
    const auto colours = all_gather(at::full({1}, colour, at::kInt));
    int new_rank = 0, new_size = 0;
    for (int i = 0; i < size_; ++i) {
      if (colours[i][0].item<int>() != colour) continue;
      new_rank += i < rank_;
      ++new_size;
    }
    const auto prefix =
        prefix_ + "/split" + std::to_string(num_splits_++) + "." + std::to_string(colour);
    return std::make_unique<ProcessGroupCommunicator>(
        make_group_, device_, store_, watch_, prefix, new_rank, new_size,
        static_cast<double>(timeout_.count()) / 1000.0);
  }

 private:
  /// Starts a collective and waits for it; stops at once if another rank is known to have failed.
  template <typename Start>
  void wait(const char* what, Start&& start) {
    const auto began = Clock::now();
    try {
      auto work = start();
      while (!work->isCompleted()) {
        if (watch_->failed()) fail(what, watch_->cause());
        if (Clock::now() - began > timeout_) fail(what, no_answer());
        std::this_thread::sleep_for(Clock::now() - began < Milliseconds(20)
                                        ? std::chrono::microseconds(50)
                                        : std::chrono::microseconds(1000));
      }
      work->wait();
    } catch (const DistributedError&) {
      throw;
    } catch (const std::exception& e) {
      if (Clock::now() - began >= timeout_)
        fail(what, no_answer());  // the backend has the same limit
      const std::string text = e.what();
      lost(what, text.substr(0, text.find('\n')));
    }
  }

  std::string no_answer() const {
    return "no answer within " + std::to_string(timeout_.count() / 1000) + " s (run.ddp_timeout)";
  }

  /// The connection to a peer broke: finds out whose fault it was.
  [[noreturn]] void lost(const char* what, const std::string& detail) {
    // A rank that dies breaks its connections a little before its word, or its silence, is heard.
    const auto until = Clock::now() + 2 * watch_->quiet_limit();
    while (Clock::now() < until) {
      if (const auto cause = watch_->cause(); !cause.empty()) fail(what, cause);
      if (const int quiet = watch_->quiet_rank(); quiet >= 0)
        fail(what, "rank " + std::to_string(quiet) +
                       " has died without a word (killed, perhaps for memory)");
      std::this_thread::sleep_for(kMissedBeats / 20);
    }
    fail(what, "another process has gone: " + detail);
  }

  [[noreturn]] void fail(const char* what, const std::string& cause) {
    broken_ = true;
    throw DistributedError(std::string(what) + " on rank " + std::to_string(rank_) + " of " +
                           std::to_string(size_) + " failed: " + cause);
  }

  GroupMaker make_group_;
  at::Device device_;  // where the backend wants its tensors
  c10::intrusive_ptr<c10d::Store> store_;
  std::shared_ptr<Watch> watch_;
  std::string prefix_;
  int rank_, size_;
  Milliseconds timeout_;
  int num_splits_ = 0;
  bool broken_ = false;  // a collective failed; there may be another that never ends
  c10::intrusive_ptr<c10d::Backend> group_;
};

/// Waits for every rank before the backend is asked to join them: NCCL would wait without end for
/// one that never comes.
void meet(c10d::Store& store, int rank, int size, Milliseconds timeout) {
  std::vector<std::string> keys;
  for (int other = 0; other < size; ++other) keys.push_back("meed/here/" + std::to_string(other));
  store.set(keys[static_cast<size_t>(rank)], bytes_of("here"));
  try {
    store.wait(keys, timeout);  // all in one request: spare the store
  } catch (const std::exception&) {
    for (int other = 0; other < size; ++other)
      if (!store.check({keys[static_cast<size_t>(other)]}))
        throw DistributedError("rank " + std::to_string(other) + " has not come; did it start?");
    throw;
  }
}

}  // namespace

std::unique_ptr<Communicator> create_process_group_communicator(const LaunchEnv& env,
                                                                at::Device device,
                                                                const std::string& name,
                                                                const GroupMaker& make_group,
                                                                double timeout_s) {
  // Under torchrun the agent may serve the store already; then nobody else may bind its port.
  const char* agent = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  const bool served = agent != nullptr && std::strcmp(agent, "True") == 0;
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(env.master_port);
  options.isServer = env.rank == 0 && !served;
  options.numWorkers = static_cast<size_t>(env.world_size);
  options.waitWorkers = false;
  options.timeout = Milliseconds(static_cast<int64_t>(timeout_s * 1000));
  try {
    const char* restart = std::getenv("TORCHELASTIC_RESTART_COUNT");
    const auto connect = [&]() -> c10::intrusive_ptr<c10d::Store> {
      auto base = c10::make_intrusive<c10d::TCPStore>(env.master_addr, options);
      return c10::make_intrusive<c10d::PrefixStore>(
          "meed/" + std::string(restart != nullptr ? restart : "0"), base);
    };
    const auto store = connect();
    const bool hosts_store = options.isServer;
    options.isServer = false;
    meet(*store, env.rank, env.world_size, options.timeout);
    auto watch = std::make_shared<Watch>(connect(), env.rank, env.world_size, hosts_store);
    return std::make_unique<ProcessGroupCommunicator>(make_group, device, store, watch, name,
                                                      env.rank, env.world_size, timeout_s);
  } catch (const std::exception& e) {
    const std::string text = e.what();
    throw DistributedError("rank " + std::to_string(env.rank) + " cannot join " + env.master_addr +
                           ":" + std::to_string(env.master_port) + " within " +
                           std::to_string(timeout_s) + " s: " + text.substr(0, text.find('\n')));
  }
}

}  // namespace meed
