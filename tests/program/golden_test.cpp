#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "program/print.h"
#include "tests/program/support.h"

// Whole programs as text. FTPLAN_UPDATE_GOLDEN=1 writes the files again; the change then explains
// each difference.

namespace ftplan::program {
namespace {

void expect_golden(const std::string& name, const std::string& text) {
  const std::string path = std::string(FTPLAN_GOLDEN_FOLDER) + "/" + name;
  if (std::getenv("FTPLAN_UPDATE_GOLDEN") != nullptr) std::ofstream(path) << text;
  std::stringstream golden;
  golden << std::ifstream(path).rdbuf();
  EXPECT_EQ(golden.str(), text) << name;
}

TEST(Golden, LoraStepOfTwoLayersWithRecomputation) {
  JobRequest request = toy_request();
  request.method = {.method = Method::kLora,
                    .rank = 2,
                    .targets = {"q_proj", "down_proj"},
                    .precision = Precision::kBf16};
  const Case c =
      make_case(request, toy_model(), {.accumulation = 2, .checkpointing = {.every = 1}});
  expect_golden("lora_step.txt", print(lower_case(c)));
}

TEST(Golden, ShardedFullStepOfTwoLayers) {
  JobRequest request = toy_request();
  request.devices.gpus = "2xcpu";
  const Case c = make_case(request, toy_model(), {.zero = 1, .loss_chunk = 4});
  expect_golden("sharded_full_step.txt", print(lower_case(c, /*rank=*/1)));
}

}  // namespace
}  // namespace ftplan::program
