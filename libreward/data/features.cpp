#include <ATen/ATen.h>

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "libpolicy/core/error.h"
#include "libpolicy/core/hdf5_file.h"
#include "libpolicy/core/log.h"
#include "libpolicy/core/random.h"
#include "libpolicy/distributed/communicator.h"
#include "libreward/data/feature_store.h"
#include "libreward/data/vector_example.h"
#include "libreward/models/feature_backbone.h"

namespace meed {
namespace {

namespace fs = std::filesystem;

/// A hash that a change of any number changes.
class Fingerprint {
 public:
  void add(uint64_t value) { hash_ = mix_seed({hash_, value}); }
  void add(std::string_view bytes) {
    add(bytes.size());
    for (const char c : bytes) add(static_cast<uint64_t>(static_cast<unsigned char>(c)));
  }
  std::string text() const {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash_));
    return text;
  }

 private:
  uint64_t hash_ = 0x6665617475726573;
};

/// Of a model: sizes of its files and a sample of the bytes of each.
std::string model_fingerprint(const fs::path& path) {
  std::vector<fs::path> files;
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::directory_iterator(path))
      if (entry.is_regular_file()) files.push_back(entry.path());
  } else {
    files.push_back(path);
  }
  std::sort(files.begin(), files.end());
  Fingerprint hash;
  for (const auto& file : files) {
    const auto size = static_cast<int64_t>(fs::file_size(file));
    hash.add(file.filename().string());
    hash.add(static_cast<uint64_t>(size));
    std::ifstream stream(file, std::ios::binary);
    constexpr int64_t kSamples = 16, kBytes = 256;
    for (int64_t s = 0; s < kSamples; ++s) {
      std::string bytes(kBytes, '\0');
      stream.clear();
      stream.seekg(std::max<int64_t>(0, (size - kBytes) * s / (kSamples - 1)));
      stream.read(bytes.data(), kBytes);
      bytes.resize(static_cast<size_t>(stream.gcount()));
      hash.add(bytes);
    }
  }
  return hash.text();
}

/// A dataset of texts with the hidden states of a frozen backbone, which are computed once and kept
/// in an HDF5 file.
class Features final : public Dataset, public HasFeatureSource {
 public:
  struct Config {
    std::optional<ConfigNode> data;
    std::string model;
    std::string pooling = "last";
    int64_t max_length = 1024, max_tokens_per_batch = 4096;
    std::string cache_dir;
    void fields(FieldVisitor& v) {
      v.component("data", data, datasets(), "The texts: preferences, or prompts with completions.");
      v.required("data");
      v.field("model", model,
              "Backbone: a decoder's folder or GGUF file, or a BERT encoder's folder.");
      v.required("model");
      v.choice("pooling", pooling, {"last", "mean", "prompt_end"},
               "The last token, the mean over all, or the prompt's end; encoders: mean.");
      v.field("max_length", max_length, "Longer texts lose their prompt's start.");
      v.field("max_tokens_per_batch", max_tokens_per_batch, "Tokens of one forward pass.");
      v.field(
          "cache_dir", cache_dir,
          "Folder of the HDF5 files; empty: the run's. A file is used again where model, texts, "
          "pooling and max_length are the same.");
      v.require(max_length > 1, "max_length", "must be at least 2");
      v.require(max_tokens_per_batch > 0, "max_tokens_per_batch", "must be positive");
    }
  };

  Features(const Config& config, RunContext& context)
      : config_(config),
        source_{config.model, config.pooling, config.max_length},
        data_(datasets().create(*config.data, context)) {
    const auto first = data_->get(0);
    pairs_ = !first.chosen.empty() || !first.rejected.empty();
    if (!pairs_ && first.completion.empty())
      throw DataError("features: row 1 has neither chosen and rejected nor a completion");
    const auto key = data_key();
    const auto folder = config.cache_dir.empty() ? context.output_dir : fs::path(config.cache_dir);
    const auto path = folder / ("features-" + key + ".h5");
    if (context.comm.is_main() && !is_current(path, key)) compute(path, key);
    context.comm.barrier();
    load(path);
  }

  int64_t size() const override { return data_->size(); }
  int64_t num_skipped() const override { return data_->num_skipped(); }
  const FeatureSource& source() const override { return source_; }
  Example get(int64_t index) const override {
    auto example = data_->get(index);
    for (const auto& [name, values_ND] : vectors_) {
      const auto row = values_ND[index].contiguous();
      const auto* data = row.const_data_ptr<float>();
      example.extra[name] = vector_column({data, data + row.numel()});
    }
    return example;
  }

 private:
  std::vector<std::pair<const char*, Content Example::*>> sides() const {
    if (pairs_)
      return {{"chosen_features", &Example::chosen}, {"rejected_features", &Example::rejected}};
    return {{"features", &Example::completion}};
  }

  std::string data_key() const {
    Fingerprint hash;
    hash.add(model_fingerprint(config_.model));
    hash.add(config_.pooling);
    hash.add(static_cast<uint64_t>(config_.max_length));
    for (int64_t i = 0; i < data_->size(); ++i) {
      const auto example = data_->get(i);
      hash.add(as_text(example.prompt, "\x1f"));
      for (const auto& [name, side] : sides()) hash.add(as_text(example.*side, "\x1f"));
      if (pairs_ && as_text(example.chosen, "\x1f") == as_text(example.rejected, "\x1f"))
        throw DataError("features: row " + std::to_string(i + 1) +
                        ": \"chosen\" and \"rejected\" are " +
                        (example.chosen.empty() ? "empty" : "the same"));
    }
    return hash.text();
  }

  /// Whether the file is there, whole and made for just this.
  bool is_current(const fs::path& path, const std::string& key) const {
    if (!fs::exists(path)) return false;
    try {
      const Hdf5Reader file(path);
      if (file.attribute("key") != key) return false;
      for (const auto& [name, side] : sides())
        if (!file.has(name) || file.shape(name).at(0) != data_->size()) return false;
      return file.has("context_features");
    } catch (const DataError& e) {
      log_warn(std::string(e.what()) + "; the features are computed anew");
      return false;
    }
  }

  void compute(const fs::path& path, const std::string& key) const {
    log_info("features: " + std::to_string(data_->size()) + " rows through " + config_.model);
    FeatureBackbone backbone(source_, config_.max_tokens_per_batch);
    fs::create_directories(path.parent_path().empty() ? "." : path.parent_path());
    Hdf5Writer file(path);
    file.set_attribute("key", key);
    file.set_attribute("model", config_.model);
    file.set_attribute("pooling", config_.pooling);
    file.set_attribute("max_length", std::to_string(config_.max_length));
    constexpr int64_t kRows = 64;
    const auto all = sides();
    for (int64_t first = 0; first < data_->size(); first += kRows) {
      const int64_t count = std::min(kRows, data_->size() - first);
      for (size_t s = 0; s < all.size(); ++s) {
        const auto& [name, side] = all[s];
        std::vector<EncodedPair> texts;
        for (int64_t i = first; i < first + count; ++i) {
          const auto example = data_->get(i);
          if ((example.*side).empty())
            throw DataError("features: row " + std::to_string(i + 1) + " has no text for " + name);
          texts.push_back(backbone.encode(example.prompt, example.*side));
        }
        const auto input = backbone.embed(texts);
        check_finite(input.features_BD, name, first);
        check_finite(input.context_BD, "context_features", first);
        file.append(name, input.features_BD);
        if (s == 0) file.append("context_features", input.context_BD);
      }
    }
    file.commit();
  }

  static void check_finite(const at::Tensor& values_BD, const std::string& name, int64_t first) {
    const auto bad_B = values_BD.isfinite().logical_not().any(/*dim=*/1);
    for (int64_t b = 0; b < bad_B.size(0); ++b)
      if (bad_B[b].item<bool>())
        throw DataError("features: row " + std::to_string(first + b + 1) + ": " + name +
                        " holds a number that is not finite; the backbone cannot read this text");
  }

  void load(const fs::path& path) {
    const Hdf5Reader file(path);
    for (const auto& [name, side] : sides()) vectors_.emplace_back(name, file.load(name));
    vectors_.emplace_back("context_features", file.load("context_features"));
    for (const auto& [name, values_ND] : vectors_) check_finite(values_ND, name, 0);
  }

  Config config_;
  FeatureSource source_;
  std::unique_ptr<Dataset> data_;
  bool pairs_ = false;
  std::vector<std::pair<std::string, at::Tensor>> vectors_;
};

MEED_REGISTER(datasets, "features", Features,
              "Another dataset's texts as hidden states of a frozen backbone, kept in HDF5.");

}  // namespace
}  // namespace meed
