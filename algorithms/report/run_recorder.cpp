#include "algorithms/report/run_recorder.h"

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "algorithms/report/environment.h"
#include "algorithms/report/jsonl_log.h"
#include "algorithms/report/metric_reducer.h"
#include "algorithms/report/progress.h"
#include "algorithms/report/report_page.h"
#include "algorithms/report/tensorboard.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "libpolicy/distributed/communicator.h"

namespace meed {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Json finite_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json to_json(const CompletionRecord& record) {
  Json json{{"step", record.step},
            {"phase", record.phase},
            {"prompt", record.prompt},
            {"completion", record.completion},
            {"reward", finite_or_null(record.reward)}};
  json["rewards"] = Json::object();
  for (const auto& [name, value] : record.rewards) json["rewards"][name] = finite_or_null(value);
  json["advantage"] = record.advantage ? finite_or_null(*record.advantage) : Json(nullptr);
  json["finish_reason"] = record.finish_reason;
  json["num_tokens"] = record.num_tokens;
  json["answer"] = record.answer;
  return json;
}

/// CBOR, not JSON: numbers that are not finite and text that is not UTF-8 survive it.
std::string pack(const MetricReducer& metrics, const std::vector<CompletionRecord>& completions) {
  Json message{{"metrics", Json::object()}, {"completions", Json::array()}};
  for (const auto& [key, partial] : metrics.partials())
    message["metrics"][key] =
        Json::array({static_cast<int>(partial.reduce), partial.total, partial.weight});
  for (const auto& record : completions) message["completions"].push_back(to_json(record));
  std::string bytes;
  Json::to_cbor(message, bytes);
  return bytes;
}

PartialMetric unpack(const Json& entry) {
  return {.reduce = static_cast<Reduce>(entry.at(0).get<int>()),
          .total = entry.at(1).get<double>(),
          .weight = entry.at(2).get<double>()};
}

using StepPhase = std::pair<int64_t, std::string>;

StepPhase step_phase(const Json& completion) {
  return {completion.value("step", int64_t{0}), completion.value("phase", std::string())};
}

}  // namespace

struct RunRecorder::Impl {
  Impl(Options given, Communicator& communicator);
  void open_files();
  void add_own_metrics();
  std::map<std::string, double> with_tokens_per_s();
  void write_metrics(int64_t step);
  void write_environment() const;
  void write_completions(const std::vector<Json>& messages);
  int64_t limit(const std::string& phase) const {
    return phase == "train" ? options.max_completions_per_step : options.max_eval_completions;
  }
  bool has_room(std::map<StepPhase, int64_t>& counts, const StepPhase& key) const {
    return counts[key] < limit(key.second) && ++counts[key];
  }

  Options options;
  Communicator& comm;
  MetricReducer metrics;
  std::vector<CompletionRecord> completions;
  std::map<StepPhase, int64_t> num_pending, num_written;
  std::map<std::string, double> last;
  std::optional<int64_t> last_step;

  // Rank 0 only.
  Json environment;
  std::optional<JsonlLog> metrics_log, completions_log;
  std::optional<TensorBoardWriter> tensorboard;
  std::optional<Progress> progress;
  Json last_object;

  Clock::time_point start = Clock::now(), last_flush = start;
  double elapsed_before_s = 0;  ///< of the run that is resumed
  double last_num_tokens = 0;
};

RunRecorder::Impl::Impl(Options given, Communicator& communicator)
    : options(std::move(given)), comm(communicator) {
  if (options.run_name.empty())
    options.run_name =
        std::filesystem::absolute(options.output_dir).lexically_normal().filename().string();
  if (comm.is_main()) open_files();
}

void RunRecorder::Impl::open_files() {
  const auto& folder = options.output_dir;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw DataError(folder.string() + ": cannot create: " + error.message());
  metrics_log.emplace(folder / "metrics.jsonl", options.resume_step,
                      [&](const std::string& line) { last_object = Json::parse(line); });
  completions_log.emplace(
      folder / "completions.jsonl", options.resume_step,
      [&](const std::string& line) { ++num_written[step_phase(Json::parse(line))]; });
  if (last_object.is_object()) {
    last_step = last_object["step"].get<int64_t>();
    const auto number = [&](const char* key) {
      return last_object.contains(key) && last_object[key].is_number()
                 ? last_object[key].get<double>()
                 : 0.0;
    };
    elapsed_before_s = number("elapsed_s");
    last_num_tokens = number("num_tokens");
  }
  const auto events = folder / "tensorboard";
  if (!options.resume_step) std::filesystem::remove_all(events, error);
  tensorboard.emplace(events, options.resume_step ? *options.resume_step + 1 : 0);
  if (!options.progress) return;
  progress.emplace(options.log_interval_s);
  progress->start(options.resume_step.value_or(0), options.total_steps);
}

void RunRecorder::Impl::add_own_metrics() {
  const MemoryUse memory = memory_use();
  metrics.record("memory/rss_mb", memory.rss_mb, Reduce::kMax, 1);
  metrics.record("memory/peak_rss_mb", memory.peak_rss_mb, Reduce::kMax, 1);
  metrics.record("elapsed_s", elapsed_before_s + seconds_since(start), Reduce::kMax, 1);
}

std::map<std::string, double> RunRecorder::Impl::with_tokens_per_s() {
  std::map<std::string, double> values = last;
  const auto total = values.find("num_tokens");
  if (total == values.end()) return values;
  const auto step_time = values.find("step_time");
  const double seconds = step_time != values.end() ? step_time->second : seconds_since(last_flush);
  const double tokens = total->second - std::exchange(last_num_tokens, total->second);
  if (seconds > 0 && tokens >= 0) values.emplace("tokens_per_s", tokens / seconds);
  return values;
}

void RunRecorder::Impl::write_metrics(int64_t step) {
  const bool again = last_step == step && last_object.is_object();
  if (!again) last_object = Json{{"step", step}};
  const auto values = with_tokens_per_s();
  int64_t num_non_finite = 0;
  for (const auto& [key, value] : values) {
    last_object[key] = finite_or_null(value);
    num_non_finite += std::isfinite(value) ? 0 : 1;
  }
  if (num_non_finite > 0)
    last_object["num_non_finite"] =
        last_object.value("num_non_finite", int64_t{0}) + num_non_finite;
  if (again)
    metrics_log->replace_last(dump(last_object));
  else
    metrics_log->append(dump(last_object));
  const double wall_s =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  tensorboard->write_scalars(step, wall_s, values);
  if (progress) progress->update(step, values);
}

/// One of each rank in turn, so that no rank's share crowds out the others.
void RunRecorder::Impl::write_completions(const std::vector<Json>& messages) {
  bool any = true;
  for (size_t i = 0; any; ++i) {
    any = false;
    for (const auto& message : messages) {
      const auto& list = message.at("completions");
      if (i >= list.size()) continue;
      any = true;
      if (has_room(num_written, step_phase(list[i]))) completions_log->append(dump(list[i]));
    }
  }
}

void RunRecorder::Impl::write_environment() const {
  Json json{{"run_name", options.run_name},
            {"algorithm", options.algorithm},
            {"total_steps", options.total_steps}};
  if (options.resume_step) json["resumed_after_step"] = *options.resume_step;
  json.update(environment);
  write_file_atomic(options.output_dir / "environment.json",
                    json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

RunRecorder::RunRecorder(Options options, Communicator& comm)
    : impl_(std::make_unique<Impl>(std::move(options), comm)) {}

RunRecorder::~RunRecorder() = default;

void RunRecorder::set_total_steps(int64_t total_steps) {
  impl_->options.total_steps = total_steps;
  if (impl_->progress) impl_->progress->start(impl_->options.resume_step.value_or(0), total_steps);
  if (impl_->environment.is_object()) impl_->write_environment();
}

void RunRecorder::record(const std::string& key, double value, Reduce reduce, double weight) {
  impl_->metrics.record(key, value, reduce, weight);
}

void RunRecorder::flush(int64_t global_step) {
  Impl& run = *impl_;
  MEED_CHECK(!run.last_step || global_step >= *run.last_step,
             "metrics of step " + std::to_string(global_step) + " come after those of step " +
                 std::to_string(run.last_step.value_or(0)));
  run.add_own_metrics();
  std::vector<Json> messages;
  for (const auto& bytes : run.comm.all_gather(pack(run.metrics, run.completions)))
    messages.push_back(Json::from_cbor(bytes));
  MetricReducer all;
  for (const auto& message : messages)
    for (const auto& [key, entry] : message.at("metrics").items()) all.add(key, unpack(entry));
  run.last = all.values();
  if (run.comm.is_main()) {
    run.write_completions(messages);
    run.write_metrics(global_step);
  }
  run.last_flush = Clock::now();
  run.last_step = global_step;
  run.metrics.clear();
  run.completions.clear();
  run.num_pending.clear();
}

const std::map<std::string, double>& RunRecorder::last() const { return impl_->last; }

void RunRecorder::record_completion(CompletionRecord completion) {
  if (impl_->has_room(impl_->num_pending, {completion.step, completion.phase}))
    impl_->completions.push_back(std::move(completion));
}

void RunRecorder::record_completions(std::vector<CompletionRecord> completions) {
  for (auto& completion : completions) record_completion(std::move(completion));
}

void RunRecorder::stage(const std::string& name, int64_t done, int64_t total) {
  if (impl_->progress) impl_->progress->stage(name, done, total);
}

void RunRecorder::write_config(const std::string& yaml) {
  if (impl_->comm.is_main()) write_file_atomic(impl_->options.output_dir / "config.yaml", yaml);
}

void RunRecorder::write_environment(const std::vector<std::string>& command_line) {
  if (!impl_->comm.is_main()) return;
  impl_->environment = Json::parse(describe_environment(command_line, impl_->comm.size()));
  impl_->write_environment();
}

std::filesystem::path RunRecorder::write_report() {
  const auto path = impl_->options.output_dir / "report.html";
  if (impl_->comm.is_main()) write_report_page({impl_->options.output_dir}, path);
  return path;
}

}  // namespace meed
