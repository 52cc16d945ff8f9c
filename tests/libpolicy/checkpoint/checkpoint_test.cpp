#include "libpolicy/checkpoint/checkpoint.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "libpolicy/checkpoint/gguf.h"
#include "libpolicy/checkpoint/model_files.h"
#include "libpolicy/checkpoint/safetensors.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/core/random.h"

namespace meed {
namespace {

namespace fs = std::filesystem;

class Checkpoint : public ::testing::Test {
 protected:
  Checkpoint()
      : root_(fs::temp_directory_path() / ("meed-checkpoint-" + std::to_string(::getpid()))) {
    fs::create_directories(root_);
  }
  ~Checkpoint() override { fs::remove_all(root_); }

  static CheckpointState state(int64_t step) {
    CheckpointState made;
    made.optimizer.tensors["exp_avg.w"] = at::full({8}, static_cast<double>(step), at::kFloat);
    made.optimizer.integers["adamw.steps"] = step;
    made.loop.numbers["x"] = 0.1 * static_cast<double>(step);
    made.loop.numbers["nan"] = std::nan("");
    made.loop.strings["s"] = "a \"quoted\" text";
    made.loop.tensors["t"] = at::arange(3, at::kLong);
    return made;
  }
  void save(int64_t step, const CheckpointOptions& options = {}) {
    save_checkpoint(
        root_, step,
        [](const fs::path& folder) { write_file_atomic(folder / "model.bin", "weights"); },
        state(step), options);
  }
  static void overwrite(const fs::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  }

  fs::path root_;
};

TEST_F(Checkpoint, ReadsBackEveryBit) {
  save(7);
  const auto loaded = load_checkpoint(root_ / "step-7");
  EXPECT_EQ(loaded.loop.numbers.at("x"), 0.1 * 7.0);
  EXPECT_TRUE(std::isnan(loaded.loop.numbers.at("nan")));
  EXPECT_EQ(loaded.loop.strings.at("s"), "a \"quoted\" text");
  EXPECT_TRUE(at::equal(loaded.loop.tensors.at("t"), at::arange(3, at::kLong)));
  EXPECT_TRUE(at::equal(loaded.optimizer.tensors.at("exp_avg.w"), at::full({8}, 7.0, at::kFloat)));
}

TEST_F(Checkpoint, KeepsTheNewestAndTheBest) {
  const std::vector<double> metrics = {0.1, 0.9, 0.3, 0.2};
  for (int64_t step = 1; step <= 4; ++step)
    save(step, {.save_total_limit = 1, .metric = metrics[static_cast<size_t>(step - 1)]});
  EXPECT_TRUE(fs::exists(root_ / "step-4"));
  EXPECT_TRUE(fs::exists(root_ / "step-2"));
  EXPECT_FALSE(fs::exists(root_ / "step-3"));
  EXPECT_FALSE(fs::exists(root_ / "step-1"));
}

TEST_F(Checkpoint, DamageIsNamedAndPassedOver) {
  save(1);
  save(2);
  overwrite(root_ / "step-2" / "model.bin", "weighty");
  EXPECT_NE(find_damage(root_ / "step-2")->find("model.bin: its bytes have changed"),
            std::string::npos);
  EXPECT_EQ(newest_checkpoint(root_)->filename(), "step-1");
  overwrite(root_ / "step-2" / "model.bin", "we");
  EXPECT_NE(find_damage(root_ / "step-2")->find("has 2 bytes"), std::string::npos);
  fs::remove(root_ / "step-1" / "optimizer.safetensors");
  EXPECT_FALSE(newest_checkpoint(root_).has_value());
  EXPECT_THROW(load_checkpoint(root_ / "step-1"), DataError);
}

TEST_F(Checkpoint, AKillAtAnyMomentLeavesTheLastGoodOne) {
  save(1);
  RandomStream random(3);
  for (int round = 0; round < 8; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (int64_t step = 2;; ++step) save(step, {.save_total_limit = 2});
    }
    ::usleep(static_cast<useconds_t>(random.next_int(1000, 40000)));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const auto newest = newest_checkpoint(root_);
    ASSERT_TRUE(newest.has_value());
    EXPECT_NO_THROW(load_checkpoint(*newest));
  }
}

TEST_F(Checkpoint, AFailedWriteLeavesTheOlderOnes) {
  save(1);
  EXPECT_THROW(
      save_checkpoint(root_, 2, [](const fs::path&) { throw DataError("no space left on device"); },
                      state(2), {}),
      DataError);
  EXPECT_EQ(newest_checkpoint(root_)->filename(), "step-1");
  EXPECT_EQ(std::distance(fs::directory_iterator(root_), {}), 1);
}

TEST_F(Checkpoint, SafetensorsReadBackAndShard) {
  const NamedTensors tensors = {{"a", at::arange(6, at::kFloat).view({2, 3})},
                                {"b", at::ones({4}, at::kBFloat16)},
                                {"empty", at::zeros({0, 2})}};
  write_sharded_safetensors(root_, tensors, /*max_shard_bytes=*/26);
  EXPECT_TRUE(fs::exists(root_ / "model.safetensors.index.json"));
  overwrite(root_ / "config.json", "{}");
  const auto files = ModelFiles::open(root_);
  EXPECT_TRUE(at::equal(files->load("a", at::kFloat), tensors[0].second));
  EXPECT_TRUE(at::equal(files->load("b", at::kBFloat16), tensors[1].second));
  EXPECT_THROW(files->load("c", at::kFloat), DataError);
  fs::remove(root_ / "model-00001-of-00002.safetensors");
  EXPECT_THROW(ModelFiles::open(root_), DataError);
}

std::string with_header(const std::string& header, const std::string& data) {
  const uint64_t size = header.size();
  std::string file(sizeof size, '\0');
  std::memcpy(file.data(), &size, sizeof size);
  return file + header + data;
}

TEST_F(Checkpoint, HostileSafetensorsAreRefused) {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const std::vector<std::string> bad = {
      "",
      "abc",
      with_header(good, "1234"),
      with_header("{", "12345678"),
      with_header("[]", ""),
      with_header(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", "12345678"),
      with_header(R"({"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}})", "12345678"),
      with_header(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", "12345678"),
      with_header(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}})",
                  "12345678"),
      with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", "12345678"),
      with_header(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
          "12345678"),
      std::string("\xff\xff\xff\xff\xff\xff\xff\x7f", 8) + good};
  for (const auto& bytes : bad) {
    overwrite(root_ / "x.safetensors", bytes);
    EXPECT_THROW(SafetensorsFile(root_ / "x.safetensors"), DataError) << bytes;
  }
  RandomStream random(5);
  const auto whole = with_header(good, "12345678");
  for (int i = 0; i < 3000; ++i) {
    auto bytes = whole;
    for (int64_t k = random.next_int(1, 3); k > 0; --k)
      bytes[static_cast<size_t>(random.next_int(0, static_cast<int64_t>(bytes.size()) - 1))] =
          static_cast<char>(random.next_int(0, 255));
    overwrite(root_ / "x.safetensors",
              bytes.substr(
                  0, static_cast<size_t>(random.next_int(0, static_cast<int64_t>(bytes.size())))));
    try {
      const SafetensorsFile file(root_ / "x.safetensors");
      for (const auto& name : file.names()) file.load(name);
    } catch (const DataError&) {
    }
  }
}

TEST_F(Checkpoint, HostileGgufIsRefused) {
  const fs::path model = fs::path(MEED_SOURCE_DIR) / ".deps/models/smollm2-135m-instruct.gguf";
  if (!fs::exists(model)) GTEST_SKIP() << model << " is not there; run scripts/setup.sh";
  std::string head(1 << 16, '\0');
  std::ifstream(model, std::ios::binary)
      .read(head.data(), static_cast<std::streamsize>(head.size()));
  overwrite(root_ / "x.gguf", head);
  EXPECT_THROW(GgufFile(root_ / "x.gguf"), DataError);  // cut short
  auto absurd = head;
  std::memset(absurd.data() + 8, 0x7f, 16);
  overwrite(root_ / "x.gguf", absurd);
  EXPECT_THROW(GgufFile(root_ / "x.gguf"), DataError);
  RandomStream random(9);
  for (int i = 0; i < 300; ++i) {
    auto bytes = head.substr(0, 4096);
    for (int64_t k = random.next_int(1, 8); k > 0; --k)
      bytes[static_cast<size_t>(random.next_int(4, 300))] =
          static_cast<char>(random.next_int(0, 255));
    overwrite(root_ / "x.gguf", bytes);
    EXPECT_THROW(GgufFile(root_ / "x.gguf"), DataError);
  }
}

}  // namespace
}  // namespace meed
