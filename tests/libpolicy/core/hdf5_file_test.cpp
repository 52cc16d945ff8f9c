#include "libpolicy/core/hdf5_file.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "libpolicy/core/error.h"

namespace meed {
namespace {

class Hdf5File : public ::testing::Test {
 protected:
  Hdf5File()
      : folder_(std::filesystem::temp_directory_path() /
                ("meed-hdf5-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~Hdf5File() override { std::filesystem::remove_all(folder_); }

  template <typename Work>
  std::string problem(const Work& work) {
    try {
      work();
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }
  std::filesystem::path path() const { return folder_ / "f.h5"; }
  std::filesystem::path folder_;
};

TEST_F(Hdf5File, ReturnsWhatWasWritten) {
  const auto floats = at::arange(6, at::kFloat).view({2, 3});
  const auto whole = at::tensor({-5, 7}, at::kLong);
  {
    Hdf5Writer file(path());
    file.write("floats", floats);
    file.write("group/whole", whole);
    file.write("flags", at::tensor({1, 0}).to(at::kBool));
    file.write("number", at::scalar_tensor(2.5, at::kDouble));
    file.write_texts("texts", {"a", "", "h\xc3\xa9"});
    file.set_attribute("model", "x/y");
    file.set_attribute("model", "z");
    file.commit();
  }
  const Hdf5Reader file(path());
  EXPECT_EQ(file.names(),
            (std::vector<std::string>{"flags", "floats", "group/whole", "number", "texts"}));
  EXPECT_TRUE(at::equal(file.load("floats"), floats));
  EXPECT_TRUE(at::equal(file.load("group/whole"), whole));
  EXPECT_EQ(file.load("flags").scalar_type(), at::kByte);
  EXPECT_DOUBLE_EQ(file.load("number").item<double>(), 2.5);
  EXPECT_EQ(file.load_texts("texts"), (std::vector<std::string>{"a", "", "h\xc3\xa9"}));
  EXPECT_EQ(file.attribute("model"), "z");
  EXPECT_EQ(file.attribute("data"), std::nullopt);
  EXPECT_FALSE(file.has("group/none"));
  EXPECT_FALSE(file.has("none/whole"));
}

TEST_F(Hdf5File, GrowsByRowsAndGivesThemBack) {
  const auto rows = at::arange(60, at::kFloat).view({20, 3});
  {
    Hdf5Writer file(path());
    file.append("rows", rows.slice(0, 0, 7));
    file.append("rows", rows.slice(0, 7, 7));
    file.append("rows", rows.slice(0, 7, 20));
    EXPECT_NE(problem([&] {
                file.append("rows", at::zeros({1, 4}));
              }).find("differ in shape"),
              std::string::npos);
    file.commit();
  }
  const Hdf5Reader file(path());
  EXPECT_EQ(file.shape("rows"), (std::vector<int64_t>{20, 3}));
  EXPECT_TRUE(at::equal(file.load("rows"), rows));
  EXPECT_TRUE(at::equal(file.load_rows("rows", 6, 3), rows.slice(0, 6, 9)));
  EXPECT_NE(problem([&] { file.load_rows("rows", 19, 2); }).find("\"rows\": has 20 rows"),
            std::string::npos);
}

TEST_F(Hdf5File, IsTheOldOneUntilCommitted) {
  {
    Hdf5Writer file(path());
    file.write("a", at::ones({1}));
    file.commit();
  }
  {
    Hdf5Writer file(path());
    file.write("b", at::ones({1}));
    EXPECT_TRUE(Hdf5Reader(path()).has("a"));
  }
  EXPECT_TRUE(Hdf5Reader(path()).has("a"));
  EXPECT_FALSE(std::filesystem::exists(path().string() + ".tmp"));
}

TEST_F(Hdf5File, SaysWhatIsWrongWithAFile) {
  EXPECT_NE(problem([&] { Hdf5Reader file(path()); }).find("f.h5: no such file"),
            std::string::npos);
  std::ofstream(path()) << "text";
  EXPECT_NE(problem([&] { Hdf5Reader file(path()); }).find("is no HDF5 file"), std::string::npos);
  {
    Hdf5Writer file(path());
    file.write("a", at::ones({1000}));
    file.commit();
  }
  EXPECT_NE(problem([&] { Hdf5Reader(path()).load("b"); }).find("f.h5: \"b\": is missing"),
            std::string::npos);
  EXPECT_NE(problem([&] { Hdf5Reader(path()).load_texts("a"); }).find("holds no texts"),
            std::string::npos);
  std::filesystem::resize_file(path(), 1000);
  EXPECT_NE(problem([&] { Hdf5Reader(path()).load("a"); }).find("f.h5: cannot be opened"),
            std::string::npos);
  EXPECT_NE(problem([&] { Hdf5Writer file(folder_ / "none" / "g.h5"); }).find("cannot be made"),
            std::string::npos);
}

}  // namespace
}  // namespace meed
