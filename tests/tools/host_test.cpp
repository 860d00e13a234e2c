#include "tools/host.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/machine.h"
#include "core/units.h"
#include "tests/tools/run_ftplan.h"
#include "tools/resolve.h"
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

constexpr const char* kT4 = "Model: \t\t Tesla T4\nIRQ:   \t\t 33\n";

TEST(GpuNames, AreWhatTheDriverSays) {
  const TemporaryFolder root;
  EXPECT_TRUE(gpu_names(root.path())->empty());
  root.write("proc/driver/nvidia/gpus/0000:00:1e.0/information", kT4);
  root.write("proc/driver/nvidia/gpus/0000:00:1f.0/information", kT4);
  EXPECT_EQ(*gpu_names(root.path()), (std::vector<std::string>{"Tesla T4", "Tesla T4"}));
}

TEST(GpuNames, ThatNobodyTellsAreAnError) {
  const TemporaryFolder root;
  root.write("dev/nvidia0", "");
  const auto names = gpu_names(root.path());
  ASSERT_FALSE(names.ok());
  EXPECT_NE(names.error().text().find("--gpus: this machine has NVIDIA GPUs, but"),
            std::string::npos);
}

TEST(This, IsTheCpuWhereThereIsNoGpu) {
  EXPECT_EQ(devices_of_this({.gpus = "this"}, TemporaryFolder().path())->gpus, "cpu");
}

TEST(This, IsItsGpusAndTheMemoryOfTheirHost) {
  const TemporaryFolder root;
  root.write("proc/meminfo", kMemory);
  root.write("proc/driver/nvidia/gpus/0000:00:1e.0/information", kT4);
  root.write("proc/driver/nvidia/gpus/0000:00:1f.0/information", kT4);
  const auto devices = devices_of_this({.gpus = "this"}, root.path());
  ASSERT_TRUE(devices.ok()) << devices.error().text();
  EXPECT_EQ(devices->gpus, "2xT4");
  EXPECT_DOUBLE_EQ(*devices->host_memory, /*kB=*/1000.0 / (1 << 20));
  EXPECT_EQ(devices_of_this({.gpus = "this", .host_memory = 3}, root.path())->host_memory, 3);
}

TEST(This, NamesThatAreNotKnownOrDifferAreRefused) {
  const TemporaryFolder root;
  root.write("proc/driver/nvidia/gpus/a/information", "Model: \t NVIDIA T400 4GB\n");
  EXPECT_NE(
      devices_of_this({}, root.path()).error().text().find("1 x NVIDIA T400 4GB, which is not"),
      std::string::npos);
  root.write("proc/driver/nvidia/gpus/b/information", kT4);
  EXPECT_NE(devices_of_this({}, root.path()).error().text().find("GPUs of several kinds"),
            std::string::npos);
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
