#include "tools/host.h"

#include <gtest/gtest.h>

#include <string>

#include "core/machine.h"
#include "core/units.h"
#include "tests/tools/run_ftplan.h"
#include "tools/scratch_cache.h"
#include "tools/table.h"

namespace ftplan::tools {
namespace {

constexpr const char* kMemory = "MemTotal: 2000 kB\nMemFree: 10 kB\nMemAvailable: 1000 kB\n";

TEST(AvailableMemory, WithoutLimitsIsWhatTheKernelCallsAvailable) {
  const TemporaryFolder root;
  root.write("proc/meminfo", kMemory);
  EXPECT_EQ(available_memory(root.path()), Bytes{1000 * 1024});
}

TEST(AvailableMemory, OfAGroupV2CountsItsPageCacheAsFree) {
  const TemporaryFolder root;
  root.write("proc/meminfo", kMemory);
  root.write("proc/self/cgroup", "0::/slice/job\n");
  root.write("sys/fs/cgroup/slice/job/memory.max", "500000\n");
  root.write("sys/fs/cgroup/slice/job/memory.current", "300000\n");
  root.write("sys/fs/cgroup/slice/job/memory.stat", "anon 200000\ninactive_file 50000\n");
  EXPECT_EQ(available_memory(root.path()),
            Bytes{/*limit=*/500000 - /*used=*/300000 + /*cache=*/50000});
}

TEST(AvailableMemory, AGroupAboveMayBeTheTighterOne) {
  const TemporaryFolder root;
  root.write("proc/meminfo", kMemory);
  root.write("proc/self/cgroup", "0::/slice/job\n");
  root.write("sys/fs/cgroup/slice/job/memory.max", "max\n");
  root.write("sys/fs/cgroup/slice/job/memory.current", "300000\n");
  root.write("sys/fs/cgroup/slice/memory.max", "400000\n");
  root.write("sys/fs/cgroup/slice/memory.current", "350000\n");
  EXPECT_EQ(available_memory(root.path()), Bytes{400000 - 350000});
}

TEST(AvailableMemory, OfAGroupV1InAContainerIsThatOfTheMount) {
  const TemporaryFolder root;
  root.write("proc/meminfo", kMemory);
  root.write("proc/self/cgroup", "5:cpuset:/\n4:memory:/docker/not-mounted-here\n0::/\n");
  root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "600000\n");
  root.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "100000\n");
  EXPECT_EQ(available_memory(root.path()), Bytes{600000 - 100000});
}

TEST(AvailableMemory, IsEmptyWhereTheSystemDoesNotTell) {
  EXPECT_FALSE(available_memory(TemporaryFolder().path()).has_value());
}

TEST(UsableCpus, AreLimitedByAQuotaRoundedUp) {
  const TemporaryFolder root;
  root.write("proc/self/cgroup", "0::/job\n");
  root.write("sys/fs/cgroup/job/cpu.max", "50000 100000\n");
  EXPECT_EQ(usable_cpus(root.path()), 1);
  EXPECT_GE(usable_cpus(), 1);
}

TEST(ScratchCache, KeepsTheNewerOfTwoMeasurementsApartByMachine) {
  const TemporaryFolder folder;
  Machine machine;
  machine.torch = "2.11.0";
  ASSERT_TRUE(
      save_scratch(folder.file("cache"), machine, {{"linear b", Bytes{2}}, {"linear a", Bytes{1}}})
          .ok());
  ASSERT_TRUE(save_scratch(folder.file("cache"), machine, {{"linear b", Bytes{3}}}).ok());
  const auto loaded = load_scratch(folder.file("cache"), machine);
  ASSERT_TRUE(loaded.ok()) << loaded.error().text();
  EXPECT_EQ(*loaded,
            (std::vector<MeasuredScratch>{{"linear a", Bytes{1}}, {"linear b", Bytes{3}}}));
  machine.threads = 7;
  EXPECT_TRUE(load_scratch(folder.file("cache"), machine)->empty());
}

TEST(MachineDigest, DependsOnWhatScratchDependsOn) {
  const Machine one;
  Machine other = one;
  other.host_memory = Bytes{5};
  other.scratch = {{"linear", Bytes{1}}};
  EXPECT_EQ(machine_digest(one), machine_digest(other));
  other.threads = 2;
  EXPECT_NE(machine_digest(one), machine_digest(other));
}

TEST(RenderTable, AlignsNumbersRightAndLeavesNoBlanksAtTheEnd) {
  EXPECT_EQ(
      render_table({.head = {"name", "GiB"}, .rows = {{"a", "1.5"}, {"long", "12.25"}, {"x", ""}}}),
      "name    GiB\n"
      "a       1.5\n"
      "long  12.25\n"
      "x\n");
}

}  // namespace
}  // namespace ftplan::tools
