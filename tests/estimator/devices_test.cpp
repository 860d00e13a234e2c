#include "estimator/devices.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/devices.h"
#include "core/machine.h"
#include "core/method.h"
#include "core/units.h"
#include "estimator/hardware.h"

namespace ftplan::estimator {
namespace {

Machine host() {
  Machine machine;
  machine.threads = 2;
  machine.host_memory = Bytes{8 * kGiB.value};
  return machine;
}

NamedDevices named(const DeviceOptions& asked) {
  auto result = name_devices(asked);
  EXPECT_TRUE(result.ok()) << result.error().text();
  return *std::move(result);
}

std::string refused(const std::string& gpus) {
  const auto result = name_devices({.gpus = gpus});
  EXPECT_FALSE(result.ok()) << gpus;
  return result ? "" : result.error().text();
}

TEST(NameDevices, ANodeIsItsDevicesAndItsHost) {
  const NamedDevices node = named({.gpus = "g4dn.metal"});
  EXPECT_EQ(node.options.gpus, "8xT4");
  EXPECT_EQ(node.options.host_memory, 384);
  EXPECT_DOUBLE_EQ(*node.options.disk, /*2 x 900 GB=*/1.8e12 / (1 << 30));
  EXPECT_EQ(node.node, find_node("g4dn.metal"));
  EXPECT_EQ(named({.gpus = "3xg4dn.metal"}).options.gpus, "3x8xT4");
  EXPECT_EQ(named({.gpus = "p5"}).options.gpus, "8xH100-80GB");
}

TEST(NameDevices, WhatIsGivenStandsOverTheNode) {
  const DeviceOptions options =
      named({.gpus = "g4dn.metal", .memory = {14}, .host_memory = 100, .disk = 50}).options;
  EXPECT_EQ(options.host_memory, 100);
  EXPECT_EQ(options.disk, 50);
  EXPECT_EQ(options.memory, std::vector<double>{14});
}

TEST(NameDevices, ADeviceGetsItsFirstNameAndNoHost) {
  const NamedDevices device = named({.gpus = "2x4xh100-sxm5"});
  EXPECT_EQ(device.options.gpus, "2x4xH100-80GB");
  EXPECT_FALSE(device.options.host_memory.has_value());
  EXPECT_FALSE(device.options.disk.has_value());
  EXPECT_EQ(named({.gpus = "4x3090"}).options.gpus, "4xRTX3090");
  EXPECT_EQ(named({.gpus = "1xT4"}).options.gpus, "1xT4");
  EXPECT_EQ(named({.gpus = "2xcpu"}).options.gpus, "2xcpu");
}

TEST(NameDevices, ANodeWhoseHostIsTheBuildersLeavesItUnknown) {
  EXPECT_FALSE(named({.gpus = "HGX-H100"}).options.host_memory.has_value());
}

TEST(NameDevices, TwoCountsOfANodeAreRefused) {
  EXPECT_EQ(refused("2x8xg4dn.metal"),
            "--gpus: got two counts, but g4dn.metal is a node of 8 x T4: expected 2xg4dn.metal");
}

TEST(NameDevices, AnUnknownNameIsRefusedWithTheNearest) {
  EXPECT_EQ(refused("A100"),
            "--gpus: got \"A100\", which is not in the catalogue; did you mean A100-40GB? (ftplan "
            "hardware lists all)");
  EXPECT_NE(refused("T5").find("did you mean T4?"), std::string::npos) << refused("T5");
  EXPECT_NE(refused("8xg4dn.metl").find("did you mean g4dn.metal?"), std::string::npos);
}

TEST(MachineOf, AT4HasNoBf16Units) {
  const auto machine = machine_of({.name = "T4"}, {}, host());
  ASSERT_TRUE(machine.ok());
  EXPECT_EQ(machine->backend, Backend::kCuda);
  EXPECT_FALSE(machine->native_bf16);
  EXPECT_GT(machine->runtime, Bytes{});
  EXPECT_FALSE(machine->host_memory.has_value());
  EXPECT_FALSE(machine->disk.has_value());
}

TEST(MachineOf, MemoryOfTheCatalogueIsOverridden) {
  const auto machine =
      machine_of({.name = "T4"}, {.memory = {14}, .host_memory = 100, .disk = 7}, host());
  ASSERT_TRUE(machine.ok());
  EXPECT_EQ(machine->device_memory, 14 * kGiB);
  EXPECT_EQ(machine->host_memory, 100 * kGiB);
  EXPECT_EQ(machine->disk, 7 * kGiB);
}

TEST(MachineOf, RanksOfAHostShareTheMemoryOfItsCpuAndEachSeesTheHostOfItsGpu) {
  const auto cpu = machine_of({.name = "cpu", .per_node = 2}, {}, host());
  ASSERT_TRUE(cpu.ok());
  EXPECT_EQ(cpu->device_memory, 4 * kGiB);
  EXPECT_EQ(cpu->threads, 2);
  const auto gpu = machine_of({.name = "T4", .per_node = 8}, {.host_memory = 384}, host());
  ASSERT_TRUE(gpu.ok());
  EXPECT_EQ(gpu->host_memory, 384 * kGiB);
}

TEST(MachineOf, DevicesMayDifferInMemory) {
  const DeviceLayout three{.name = "T4", .per_node = 3};
  EXPECT_FALSE(machine_of(three, {.memory = {14, 14}}, host()).ok());
  const DeviceOptions differ{.memory = {14, 14, 8}};
  const auto machine = machine_of(three, differ, host());
  ASSERT_TRUE(machine.ok());
  EXPECT_EQ(machine->device_memory, 8 * kGiB);
  EXPECT_EQ(memory_of_rank(*machine, differ, 1), 14 * kGiB);
  EXPECT_EQ(memory_of_rank(*machine, differ, 2), 8 * kGiB);
  const DeviceOptions same{.memory = {14}};
  EXPECT_EQ(memory_of_rank(*machine_of(three, same, host()), same, 2), 14 * kGiB);
}

constexpr Bytes kScores{512 * kMiB.value};

TEST(DeviceNotes, SayWhatAT4DoesNotDoWell) {
  const Hardware& device = *find_hardware("T4");
  const std::vector<std::string> notes = device_notes(device, Precision::kBf16, kScores);
  EXPECT_EQ(notes[0], "T4 has no bf16 units: bf16 is emulated there, slowly; use --precision fp16");
  EXPECT_EQ(notes[1],
            "T4 has no flash attention 2 (compute capability 7.5): its memory-efficient attention "
            "is taken, which holds no S x S scores either; written out they would be 512.0 MiB a "
            "layer in 16 bit");
  ASSERT_EQ(notes.size(), 2U);
  EXPECT_EQ(device_notes(device, Precision::kFp16, kScores), std::vector<std::string>{notes[1]});
}

TEST(DeviceNotes, OfAnH100ThereIsNothingToSay) {
  EXPECT_TRUE(device_notes(*find_hardware("H100"), Precision::kBf16, kScores).empty());
}

TEST(DeviceNotes, OfOtherPlatformsSayThatNobodyHasCompared) {
  const auto notes = [](const char* name) {
    return device_notes(*find_hardware(name), Precision::kBf16, kScores);
  };
  EXPECT_EQ(notes("Gaudi2"),
            std::vector<std::string>{"Gaudi2 runs other kernels than CUDA's, whose bytes are "
                                     "counted here: nobody has compared the two"});
  EXPECT_EQ(notes("TPUv5e").size(), 2U);
}

TEST(DeviceNotes, WithoutFusedAttentionTheScoresComeOnTop) {
  const auto notes = device_notes(*find_hardware("Gaudi1"), Precision::kBf16, kScores);
  EXPECT_NE(notes[0].find("come on top, 512.0 MiB a layer"), std::string::npos) << notes[0];
}

TEST(DeviceLayout, IsReadBackFromItsText) {
  for (const DeviceLayout& layout :
       {DeviceLayout{.name = "T4"}, {.name = "T4", .per_node = 8}, {"T4", 3, 1}, {"T4", 3, 8}}) {
    const auto again = parse_devices(to_text(layout));
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(*again, layout) << to_text(layout);
  }
}

}  // namespace
}  // namespace ftplan::estimator
