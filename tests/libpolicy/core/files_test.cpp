#include "libpolicy/core/files.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>

namespace meed {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

TEST(FolderLock, IsHeldByOneAtATimeAndLeavesNoEmptyFolder) {
  const auto folder = fs::temp_directory_path() / ("meed-lock-" + std::to_string(::getpid()));
  {
    const FolderLock first(folder / "run", milliseconds(0));
    EXPECT_TRUE(first.held());
    const FolderLock second(folder / "run", milliseconds(120));
    EXPECT_FALSE(second.held());
    const FolderLock other(folder / "other", milliseconds(0));
    EXPECT_TRUE(other.held());
    std::ofstream(folder / "run" / "written") << "1";
  }
  EXPECT_TRUE(fs::exists(folder / "run" / "written"));
  EXPECT_FALSE(fs::exists(folder / "other"));
  fs::remove_all(folder);
}

TEST(FolderLock, IsWaitedForAndGoesWithItsProcess) {
  const auto folder = fs::temp_directory_path() / ("meed-lock-" + std::to_string(::getpid()));
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const FolderLock lock(folder, milliseconds(0));
    const char held = lock.held() ? '1' : '0';
    if (::write(ready[1], &held, 1) != 1) ::_exit(1);
    ::pause();
  }
  char held = 0;
  ASSERT_EQ(::read(ready[0], &held, 1), 1);
  EXPECT_EQ(held, '1');
  EXPECT_FALSE(FolderLock(folder, milliseconds(0)).held());
  std::thread killer([child] {
    std::this_thread::sleep_for(milliseconds(100));
    ::kill(child, SIGKILL);
  });
  EXPECT_TRUE(FolderLock(folder, milliseconds(20000)).held());
  killer.join();
  ::waitpid(child, nullptr, 0);
  fs::remove_all(folder);
}

TEST(FolderLock, LeavesAFolderThatCannotBeMadeToWhoWritesThere) {
  EXPECT_TRUE(FolderLock("/proc/none", milliseconds(0)).held());
}

}  // namespace
}  // namespace meed
