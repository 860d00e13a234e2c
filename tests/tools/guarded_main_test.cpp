#include "tools/guarded_main.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <new>
#include <stdexcept>
#include <string>

namespace ftplan::tools {
namespace {

struct Ended {
  int code;
  std::string said;
};

Ended run_guarded(const std::function<int()>& run) {
  testing::internal::CaptureStderr();
  const int code = guarded_main(run);
  return {code, testing::internal::GetCapturedStderr()};
}

TEST(GuardedMain, PassesTheExitCodeOn) {
  EXPECT_EQ(run_guarded([] { return 3; }).code, 3);
  EXPECT_EQ(run_guarded([] { return 3; }).said, "");
}

TEST(GuardedMain, TheEndOfMemoryIsAFailedRun) {
  const Ended ended = run_guarded([]() -> int { throw std::bad_alloc(); });
  EXPECT_EQ(ended.code, 4);
  EXPECT_EQ(ended.said,
            "ftplan: memory: the system gives no more: close other programs; what was saved is "
            "kept, run again\n");
}

TEST(GuardedMain, AnotherExceptionIsABug) {
  const Ended ended = run_guarded([]() -> int { throw std::runtime_error("surprise"); });
  EXPECT_EQ(ended.code, 1);
  EXPECT_EQ(ended.said, "ftplan: surprise\n");
}

// Reads the last of `pages` pages of a file that was cut to one after it was mapped.
int read_what_is_gone(const std::string& path, int pages) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::ofstream(path) << std::string(page * static_cast<std::size_t>(pages), 'x');
  const int file = ::open(path.c_str(), O_RDONLY);
  const auto size = page * static_cast<std::size_t>(pages);
  const void* bytes = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0);
  ::close(file);
  std::filesystem::resize_file(path, page);
  return *(static_cast<const volatile char*>(bytes) + size - 1);
}

TEST(GuardedMain, BytesThatAFileHasLostAreAFailedRunThatNamesIt) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const std::string path = testing::TempDir() + "ftplan_lost_file";
  EXPECT_EXIT(guarded_main([&] { return read_what_is_gone(path, 3); }), testing::ExitedWithCode(4),
              "^ftplan: .*ftplan_lost_file: can no longer be read: it was cut while it was in use");
}

// Memory that is no file's: as without the guard, so that a debugger sees it.
TEST(GuardedMain, AFaultElsewhereStaysASignal) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(guarded_main([] { return ::raise(SIGBUS); }), testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace ftplan::tools
