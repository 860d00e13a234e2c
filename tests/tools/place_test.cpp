#include "tools/place.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>

#include "core/result.h"

namespace ftplan::tools {
namespace {

using Environment = std::map<std::string, std::string>;

Variables in(const Environment& environment) {
  return [environment](const std::string& name) {
    const auto found = environment.find(name);
    return found == environment.end() ? "" : found->second;
  };
}

LaunchedRank rank_in(const Environment& environment) {
  const auto rank = launched_rank(in(environment));
  EXPECT_TRUE(rank.ok()) << rank.error().text();
  EXPECT_TRUE(rank->has_value());
  return rank.ok() && *rank ? **rank : LaunchedRank{};
}

std::string refusal_of(const Environment& environment) {
  const auto rank = launched_rank(in(environment));
  return rank.ok() ? "" : rank.error().text();
}

const Environment kTorchrun = {{"RANK", "5"},           {"WORLD_SIZE", "8"},
                               {"LOCAL_RANK", "1"},     {"LOCAL_WORLD_SIZE", "4"},
                               {"MASTER_ADDR", "gpu1"}, {"MASTER_PORT", "29500"}};

Environment with(Environment environment, const Environment& more) {
  for (const auto& [name, value] : more) environment[name] = value;
  return environment;
}

TEST(Place, WithoutALauncherThereIsNone) {
  EXPECT_EQ(*launched_rank(in({})), std::nullopt);
  EXPECT_EQ(*launched_node(in({})), std::nullopt);
  // A shell on a node of Slurm's, outside of srun.
  EXPECT_EQ(*launched_rank(in({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}})), std::nullopt);
}

TEST(Place, IsTorchruns) {
  EXPECT_EQ(rank_in(kTorchrun), (LaunchedRank{.launcher = "torchrun",
                                              .rank = 5,
                                              .ranks = 8,
                                              .local_ranks = 4,
                                              .address = "gpu1",
                                              .port = 29500}));
  const auto restarted = rank_in(with(
      kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "True"}, {"TORCHELASTIC_RESTART_COUNT", "2"}}));
  EXPECT_TRUE(restarted.launcher_listens);
  EXPECT_EQ(restarted.attempt, "2");
}

TEST(Place, IsSlurmsInsideOfSrun) {
  const Environment slurm = {{"SLURM_PROCID", "3"},
                             {"SLURM_NTASKS", "16"},
                             {"SLURM_STEP_NUM_TASKS", "4"},
                             {"SLURM_STEP_ID", "1"},
                             {"SLURM_STEP_TASKS_PER_NODE", "2(x2)"},
                             {"SLURM_STEP_NODELIST", "gnode[010,020-022]"},
                             {"SLURM_JOB_ID", "123456"}};
  EXPECT_EQ(rank_in(slurm), (LaunchedRank{.launcher = "slurm",
                                          .rank = 3,
                                          .ranks = 4,
                                          .local_ranks = 2,
                                          .address = "gnode010",
                                          .port = /*10000 + 123456 % 50000=*/33456,
                                          .attempt = "0.1"}));
  const auto given = rank_in(with(slurm, {{"MASTER_ADDR", "ib0"}, {"MASTER_PORT", "4000"}}));
  EXPECT_EQ(given.address, "ib0");
  EXPECT_EQ(given.port, 4000);
  // torchrun started inside of srun comes first.
  EXPECT_EQ(rank_in(with(slurm, kTorchrun)).launcher, "torchrun");
}

TEST(Place, IsThatOfMpi) {
  const Environment meeting = {{"MASTER_ADDR", "node0"}, {"MASTER_PORT", "5000"}};
  const auto open = rank_in(with(meeting, {{"OMPI_COMM_WORLD_RANK", "1"},
                                           {"OMPI_COMM_WORLD_SIZE", "4"},
                                           {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}));
  EXPECT_EQ(open, (LaunchedRank{.launcher = "mpirun",
                                .rank = 1,
                                .ranks = 4,
                                .local_ranks = 2,
                                .address = "node0",
                                .port = 5000}));
  const auto pmi = rank_in(with(meeting, {{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}));
  EXPECT_EQ(pmi.rank, 1);
  EXPECT_EQ(pmi.ranks, 2);
}

TEST(Place, OfANodeIsPets) {
  const Environment pet = {{"PET_NNODES", "2"},
                           {"PET_NODE_RANK", "1"},
                           {"PET_NPROC_PER_NODE", "4"},
                           {"PET_MASTER_ADDR", "job-node-0-0.job"},
                           {"PET_MASTER_PORT", "29500"}};
  EXPECT_EQ(**launched_node(in(pet)), (LaunchedNode{.node = 1,
                                                    .nodes = 2,
                                                    .ranks_per_node = 4,
                                                    .address = "job-node-0-0.job",
                                                    .port = 29500}));
  EXPECT_EQ((*launched_node(in(with(pet, {{"PET_NPROC_PER_NODE", "auto"}}))))->ranks_per_node,
            std::nullopt);
}

TEST(Place, SaysWhatIsWrong) {
  EXPECT_EQ(refusal_of(with(kTorchrun, {{"RANK", "8"}})),
            "RANK: got \"8\", expected a number of 0..7");
  EXPECT_EQ(refusal_of(with(kTorchrun, {{"WORLD_SIZE", "x"}})),
            "WORLD_SIZE: got \"x\", expected a number of 1..65536");
  EXPECT_EQ(refusal_of({{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "2"}}),
            "MASTER_ADDR: is not set: give the host of rank 0, where the ranks meet");
}

TEST(Place, TheFirstHostOfAList) {
  EXPECT_EQ(first_host("node1"), "node1");
  EXPECT_EQ(first_host("node1,node2"), "node1");
  EXPECT_EQ(first_host("gpu[07,10-12],login1"), "gpu07");
  EXPECT_EQ(first_host("gpu[10-12]"), "gpu10");
  EXPECT_EQ(first_host("rack[1-2]-ib,x"), "rack1-ib");
}

}  // namespace
}  // namespace ftplan::tools
