#include "estimator/hardware.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/units.h"
#include "estimator/hardware_fields.h"  // IWYU pragma: keep: the JSON form

namespace ftplan::estimator {
namespace {

std::string without_marks(const std::string& name) {
  std::string plain;
  for (const char c : name) {
    if (c != '-' && c != '_') plain += static_cast<char>(std::tolower(c));
  }
  return plain;
}

TEST(Catalogue, HasTheAcceleratorsAndNodesOfTheirTime) {
  for (const char* name :
       {"P100-16GB",  "V100-16GB",   "V100-32GB",  "T4",        "A100-40GB", "A100-80GB", "A10G",
        "A30",        "A40",         "L4",         "L40S",      "RTX3090",   "RTX4090",   "RTX5090",
        "A5000",      "A6000",       "RTX6000Ada", "H100-PCIe", "H100-80GB", "H100-NVL",  "H200",
        "GH200-96GB", "GH200-144GB", "B200",       "GB200",     "B300",      "GB300",     "MI250X",
        "MI300X",     "MI325X",      "MI355X",     "Gaudi1",    "Gaudi2",    "Gaudi3",    "TPUv5e",
        "TPUv5p",     "Trainium2"}) {
    EXPECT_NE(find_hardware(name), nullptr) << name;
  }
  for (const char* name : {"g4dn.metal", "p3.16xlarge", "p4d.24xlarge", "p4de.24xlarge",
                           "p5.48xlarge", "DGX-A100-80GB", "DGX-H100", "HGX-A100-80GB", "HGX-H100",
                           "HLS-Gaudi2", "HLS-Gaudi3", "3090-box", "4090-box"}) {
    EXPECT_NE(find_node(name), nullptr) << name;
  }
}

TEST(Catalogue, ASpellingMeansOneThing) {
  std::set<std::string> seen;
  const auto add = [&](const std::string& name, const std::vector<std::string>& aliases) {
    std::set<std::string> own = {without_marks(name)};
    for (const std::string& alias : aliases) own.insert(without_marks(alias));
    for (const std::string& spelling : own) EXPECT_TRUE(seen.insert(spelling).second) << spelling;
  };
  for (const Hardware& entry : hardware()) add(entry.name, entry.aliases);
  for (const Node& node : nodes()) add(node.name, node.aliases);
}

TEST(Catalogue, NamesAreFoundInTheSpellingsThatPeopleUse) {
  const std::vector<std::vector<std::string>> spellings = {
      {"A100-40GB", "a100-sxm4-40gb"}, {"H100-80GB", "H100"},
      {"H100-80GB", "H100-SXM5-80GB"}, {"RTX4090", "4090"},
      {"RTX4090", "rtx-4090"},         {"RTX3090", "3090"},
      {"Gaudi2", "gaudi-2"},           {"T4", "Tesla-T4"},
      {"V100-16GB", "V100-SXM2-16GB"}, {"P100-16GB", "P100"},
      {"H200", "H200-141GB"},          {"GH200-96GB", "GH200"},
      {"RTX6000Ada", "RTX 6000 Ada"},  {"A100-80GB", "A100_80GB"}};
  for (const auto& pair : spellings) {
    const Hardware* found = find_hardware(pair[1]);
    ASSERT_NE(found, nullptr) << pair[1];
    EXPECT_EQ(found->name, pair[0]) << pair[1];
  }
  EXPECT_EQ(find_hardware("A100"), nullptr);  // of 40 or of 80 GB?
  EXPECT_EQ(find_node("p5")->name, "p5.48xlarge");
}

class Devices : public testing::TestWithParam<const Hardware*> {};
std::vector<const Hardware*> all_devices() {
  std::vector<const Hardware*> all;
  for (const Hardware& entry : hardware()) all.push_back(&entry);
  return all;
}
INSTANTIATE_TEST_SUITE_P(All, Devices, testing::ValuesIn(all_devices()),
                         [](const auto& of) { return without_marks(of.param->name); });

// What is sold in units of 1000 is reported in units of 1024, less what the driver keeps.
TEST_P(Devices, FrameworksSeeALittleLessMemoryThanIsSold) {
  const Hardware& device = *GetParam();
  const double sold = std::stod(device.sold_as);
  const double share = static_cast<double>(device.memory_bytes.value) / (sold * 1e9);
  EXPECT_GT(share, 0.9) << device.sold_as;
  EXPECT_LT(share, 1.075) << device.sold_as;  // 2^30 / 10^9 = 1.074
}

TEST_P(Devices, RatesAgreeWithTheCapabilities) {
  const Hardware& device = *GetParam();
  if (!device.peak_flops_per_s) {
    EXPECT_EQ(device.name, "Gaudi1");  // the only one whose maker publishes none
    return;
  }
  const Rates& peak = *device.peak_flops_per_s;
  EXPECT_EQ(peak.bf16.has_value(), device.native_bf16);
  EXPECT_EQ(peak.fp8.has_value(), device.native_fp8);
  EXPECT_GE(peak.fp8.value_or(1e18), peak.bf16.value_or(0));
  if (!device.measured_flops_per_s) return;
  EXPECT_LE(*device.measured_flops_per_s->bf16, *peak.bf16);
  EXPECT_GE(*device.measured_flops_per_s->bf16, 0.5 * *peak.bf16);
}

// The rule of CUDA's kernels: flash attention 2, and units for bf16, from 8.0 on; fp8 from 8.9 on.
TEST_P(Devices, CudaCapabilitiesFollowTheirNumber) {
  const Hardware& device = *GetParam();
  if (device.platform != Platform::kCuda) return;
  ASSERT_TRUE(device.compute_capability.has_value());
  const double capability = std::stod(*device.compute_capability);
  EXPECT_EQ(device.native_bf16, capability >= 8.0);
  EXPECT_EQ(device.native_fp8, capability >= 8.9);
  EXPECT_EQ(device.attention,
            capability >= 8.0 ? AttentionKernel::kFlash : AttentionKernel::kMemoryEfficient);
}

TEST_P(Devices, OfOtherPlatformsTheRuntimeIsHardlyKnown) {
  const Hardware& device = *GetParam();
  if (device.platform == Platform::kCuda) {
    EXPECT_LE(device.runtime_interval, 0.5);
    return;
  }
  EXPECT_GE(device.runtime_interval, 0.75);
}

TEST(Nodes, HaveDevicesOfTheCatalogue) {
  for (const Node& node : nodes()) {
    const Hardware* device = find_hardware(node.device);
    ASSERT_NE(device, nullptr) << node.name;
    EXPECT_EQ(device->name, node.device);
    EXPECT_EQ(node.price_date.has_value(), node.price_usd_per_hour.has_value()) << node.name;
  }
  const Node& metal = *find_node("g4dn.metal");
  EXPECT_EQ(metal.devices, 8);
  EXPECT_EQ(metal.device, "T4");
  EXPECT_EQ(*metal.host_memory_bytes, 384 * kGiB);
}

TEST(Catalogue, ReadsBackWhatItWrites) {
  for (const Hardware& entry : hardware()) {
    const Json json = to_json(entry);
    const auto again = read_hardware(json.dump(), entry.name);
    ASSERT_TRUE(again.ok()) << again.error().text();
    EXPECT_EQ(to_json(*again), json);
  }
  for (const Node& node : nodes()) {
    const auto again = read_node(to_json(node).dump(), node.name);
    ASSERT_TRUE(again.ok()) << again.error().text();
    EXPECT_EQ(to_json(*again), to_json(node));
  }
}

Json t4() { return to_json(*find_hardware("T4")); }

std::string error_of(const Json& json) {
  const auto read = read_hardware(json.dump(), "X.json");
  return read ? "" : read.error().text();
}

TEST(ReadHardware, ANumberWithoutASourceIsRefused) {
  Json json = t4();
  json["sources"].erase(json["sources"].begin());
  EXPECT_EQ(error_of(json),
            "X.json#/sources: got none of memory_bytes, expected where each number is from");
}

TEST(ReadHardware, ASourceOfNothingIsRefused) {
  Json json = t4();
  json["sources"][0]["of"] = {"memory_bytes", "colour"};
  EXPECT_EQ(error_of(json).find("X.json#/sources: got \"colour\", which the entry does not state"),
            0U)
      << error_of(json);
}

TEST(ReadHardware, AnUnknownKeyAMissingOneAndANumberOutOfRangeAreRefused) {
  Json json = t4();
  json["memory"] = 1;
  EXPECT_NE(error_of(json).find("X.json#/memory"), std::string::npos) << error_of(json);
  json = t4();
  json.erase("memory_bytes");
  EXPECT_EQ(error_of(json), "X.json#/memory_bytes: missing");
  json = t4();
  json["runtime_interval"] = 2;
  EXPECT_EQ(error_of(json).find("X.json#/runtime_interval: got 2, expected"), 0U) << error_of(json);
  json = t4();
  json["attention"] = "fast";
  EXPECT_NE(error_of(json).find("flash | memory-efficient | eager"), std::string::npos);
}

}  // namespace
}  // namespace ftplan::estimator
