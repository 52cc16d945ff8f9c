#include "algorithms/report/report_page.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "algorithms/report/report_data.h"
#include "libpolicy/core/error.h"
#include "libpolicy/core/files.h"
#include "tests/algorithms/report/report_test_util.h"

namespace meed {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

void write(const fs::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

size_t count(const std::string& text, const std::string& part) {
  size_t number = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++number;
  return number;
}

/// What stands in the page's data element.
Json data_of(const std::string& page) {
  const std::string open = R"(id="data">)";
  const auto begin = page.find(open) + open.size();
  return Json::parse(page.substr(begin, page.find("</script>", begin) - begin));
}

TEST(ReportPage, HostileTextStaysText) {
  const TemporaryFolder folder;
  const std::string hostile =
      "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)> {{script}} \xe2\x80\xa8";
  write(folder.path() / "metrics.jsonl", Json{{"step", 1}, {hostile, 2.0}}.dump() + "\n");
  write(folder.path() / "completions.jsonl",
        Json{{"step", 1}, {"prompt", hostile}, {"completion", hostile}, {"rewards", {{hostile, 1}}}}
                .dump() +
            "\n");
  write(folder.path() / "environment.json", Json{{"run_name", hostile}}.dump());
  write(folder.path() / "config.yaml", hostile);
  const std::string page = report_page({folder.path()});
  EXPECT_EQ(count(page, "alert(1)</script>"), 0u);
  EXPECT_EQ(count(page, "</script>"), 3u);  // the page's own elements
  EXPECT_EQ(count(page, "<script"), 3u);
  EXPECT_EQ(count(page, "<img"), 0u);
  EXPECT_NE(page.find("<title>&lt;/script&gt;"), std::string::npos);
  const Json run = data_of(page)[0];
  EXPECT_EQ(run["name"], hostile);
  EXPECT_EQ(run["config"], hostile);
  EXPECT_EQ(run["completions"]["rows"][0]["completion"], hostile);
}

TEST(ReportPage, NeedsNoNetwork) {
  const TemporaryFolder folder;
  write(folder.path() / "metrics.jsonl", "{\"step\": 1, \"loss\": 0.5}\n");
  const std::string page = report_page({folder.path()});
  for (const char* part : {"src=\"http", "href=\"http", "@import", "url(", "<link"})
    EXPECT_EQ(count(page, part), 0u) << part;
  EXPECT_NE(page.find("default-src 'none'"), std::string::npos);
  EXPECT_NE(page.find("Chart.js v3"), std::string::npos);
}

TEST(ReportPage, UnfinishedAndDamagedRunsSayWhatIsMissing) {
  const TemporaryFolder folder;
  write(folder.path() / "metrics.jsonl", "{\"step\": 1, \"loss\": null}\n{\"step\": 2, \"lo");
  write(folder.path() / "environment.json", "{\"total_steps\": 10}");
  const Json run = Json::parse(run_as_json(folder.path()));
  const std::string problems = run["problems"].dump();
  EXPECT_NE(problems.find("unfinished: step 1 of 10"), std::string::npos) << problems;
  EXPECT_NE(problems.find("metrics.jsonl: 1 damaged line(s)"), std::string::npos) << problems;
  EXPECT_NE(problems.find("loss was not a finite number at 1 step(s)"), std::string::npos)
      << problems;
  EXPECT_NE(problems.find("config.yaml is missing"), std::string::npos) << problems;
}

TEST(ReportPage, DamagedEnvironmentIsNoted) {
  const TemporaryFolder folder;
  write(folder.path() / "environment.json", "{\"total_steps\": \"ten\", ");
  const Json run = Json::parse(run_as_json(folder.path()));
  EXPECT_NE(run["problems"].dump().find("environment.json is damaged"), std::string::npos);
  EXPECT_NE(run["problems"].dump().find("metrics.jsonl is missing"), std::string::npos);
}

TEST(ReportPage, AFolderThatIsNoRunIsAnError) {
  const TemporaryFolder folder;
  EXPECT_THROW(report_page({folder.path()}), DataError);
  EXPECT_THROW(report_page({folder.path() / "absent"}), DataError);
}

TEST(ReportPage, SeveralRunsStandSideBySide) {
  const TemporaryFolder first, second;
  for (const auto* folder : {&first, &second})
    write(folder->path() / "metrics.jsonl", "{\"step\": 1, \"loss\": 0.5}\n");
  EXPECT_EQ(data_of(report_page({first.path(), second.path()})).size(), 2u);
}

TEST(ReportData, DownsamplingKeepsEndsAndSpikes) {
  std::vector<double> x, y;
  for (int i = 0; i < 10000; ++i) {
    x.push_back(i);
    y.push_back(std::sin(i * 0.001));
  }
  y[6321] = 50;
  const auto kept = downsample(x, y, 500);
  ASSERT_EQ(kept.size(), 500u);
  EXPECT_EQ(kept.front(), 0u);
  EXPECT_EQ(kept.back(), 9999u);
  EXPECT_NE(std::find(kept.begin(), kept.end(), 6321u), kept.end());
  EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end()));
  EXPECT_EQ(downsample(std::span(x).first(10), std::span(y).first(10), 500).size(), 10u);
}

TEST(ReportData, ManyCompletionsAreThinnedOverTheSteps) {
  const TemporaryFolder folder;
  std::string rows;
  for (int step = 0; step <= 100; ++step)
    for (int i = 0; i < 10; ++i)
      rows += Json{{"step", step},
                   {"phase", step == 0 ? "before" : "train"},
                   {"prompt", "p"},
                   {"completion", std::string(300, 'x')}}
                  .dump() +
              "\n";
  write(folder.path() / "completions.jsonl", rows);
  const Json run = Json::parse(
      run_as_json(folder.path(), {.max_points = 10, .max_completions = 100, .max_text_bytes = 50}));
  const auto& completions = run["completions"];
  EXPECT_EQ(completions["total"], 1010);
  EXPECT_LE(completions["rows"].size(), 100u);
  EXPECT_GE(completions["rows"].size(), 60u);
  EXPECT_EQ(completions["prompts"].size(), 1u);
  EXPECT_EQ(completions["rows"][0]["phase"], "before");
  EXPECT_EQ(completions["rows"].back()["step"], 100);
  EXPECT_NE(completions["rows"][0]["completion"].get<std::string>().find("250 more bytes"),
            std::string::npos);
}

}  // namespace
}  // namespace meed
