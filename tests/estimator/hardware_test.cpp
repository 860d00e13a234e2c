#include "estimator/hardware.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/devices.h"
#include "core/machine.h"
#include "core/units.h"

namespace ftplan::estimator {
namespace {

Machine host() {
  Machine machine;
  machine.threads = 2;
  machine.host_memory = Bytes{8 * kGiB.value};
  return machine;
}

TEST(Hardware, EveryEntrySaysWhereItsNumbersAreFrom) {
  ASSERT_FALSE(hardware().empty());
  for (const Hardware& entry : hardware()) EXPECT_FALSE(entry.sources.empty()) << entry.name;
}

TEST(Hardware, AT4HasNoBf16Units) {
  const auto machine = machine_of({.name = "T4"}, {}, host());
  ASSERT_TRUE(machine.ok());
  EXPECT_EQ(machine->backend, Backend::kCuda);
  EXPECT_FALSE(machine->native_bf16);
  EXPECT_GT(machine->runtime, Bytes{});
  EXPECT_FALSE(machine->host_memory.has_value());
}

TEST(Hardware, MemoryOfTheCatalogueIsOverridden) {
  const auto machine = machine_of({.name = "T4"}, {.memory = {14}, .host_memory = 100}, host());
  ASSERT_TRUE(machine.ok());
  EXPECT_EQ(machine->device_memory, Bytes{14 * kGiB.value});
  EXPECT_EQ(machine->host_memory, Bytes{100 * kGiB.value});
}

TEST(Hardware, RanksOfAHostShareItsMemory) {
  const auto machine = machine_of({.name = "cpu", .per_node = 2}, {}, host());
  ASSERT_TRUE(machine.ok());
  EXPECT_EQ(machine->device_memory, Bytes{4 * kGiB.value});
  EXPECT_EQ(machine->threads, 2);
}

TEST(Hardware, AnUnknownNameIsRefusedWithTheNearest) {
  const auto machine = machine_of({.name = "A100"}, {}, host());
  ASSERT_FALSE(machine.ok());
  EXPECT_EQ(machine.error().text(),
            "--gpus: got \"A100\", known are cpu, A100-80GB, T4; did you mean A100-80GB?");
}

TEST(Hardware, OfOtherGpusTheOneWithTheLongestCommonPartIsNamed) {
  EXPECT_NE(machine_of({.name = "H100"}, {}, host()).error().text().find("did you mean A100-80GB?"),
            std::string::npos);
  EXPECT_NE(machine_of({.name = "t4"}, {}, host()).error().text().find("did you mean T4?"),
            std::string::npos);
}

TEST(Hardware, MemoriesMustMatchTheDevices) {
  const DeviceLayout three{.name = "T4", .per_node = 3};
  EXPECT_FALSE(machine_of(three, {.memory = {14, 14}}, host()).ok());
  EXPECT_FALSE(machine_of(three, {.memory = {14, 14, 8}}, host()).ok());
  EXPECT_TRUE(machine_of(three, {.memory = {14, 14, 14}}, host()).ok());
}

TEST(Hardware, AnEntryWithoutSourcesIsRefused) {
  const auto entry = read_hardware(
      R"({"name": "X", "memory_bytes": 1, "sold_as": "1 B", "native_bf16": true, "runtime_bytes": 0,
          "runtime_interval": 0, "sources": []})",
      "X.json");
  ASSERT_FALSE(entry.ok());
  EXPECT_EQ(entry.error().text(), "X.json#/sources: got none, expected where the numbers are from");
}

}  // namespace
}  // namespace ftplan::estimator
