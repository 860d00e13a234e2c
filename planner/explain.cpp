#include "planner/explain.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/enums.h"
#include "core/job.h"
#include "core/machine.h"
#include "core/method.h"
#include "core/plan.h"
#include "core/result.h"
#include "core/strategy.h"
#include "core/units.h"
#include "core/what_if.h"
#include "planner/search.h"

namespace ftplan::planner {
namespace {

struct Knob {
  std::string flags;
  std::string note;
  JobRequest request;
  Strategy strategy;
};

class Knobs {
 public:
  explicit Knobs(const Plan& plan) : plan_(plan) {}

  std::vector<Knob> all() {
    checkpointing();
    micro_batch();
    loss_chunk();
    sequence();
    method();
    return std::move(knobs_);
  }

 private:
  Knob& add(std::string flags, std::string note) {
    return knobs_.emplace_back(Knob{std::move(flags), std::move(note), plan_.job, plan_.strategy});
  }

  void checkpointing() {
    for (const std::int64_t every : {0, 1, 2, 4}) {
      const Checkpointing other{.every = every};
      if (other == plan_.strategy.checkpointing || every > plan_.model.layers) continue;
      if (every > 1 && plan_.job.runtime != "ftplan") continue;  // others know one layer only
      const bool more = plan_.strategy.checkpointing.every == 0;
      add("--checkpointing " + to_text(other), every == 0 ? "no recomputation"
                                               : more     ? "one more forward pass"
                                                          : "")
          .strategy.checkpointing = other;
    }
  }

  void micro_batch() {
    const Strategy& s = plan_.strategy;
    if (s.accumulation % 2 == 0) {
      Strategy& other =
          add("--micro-batch " + std::to_string(s.micro_batch * 2), "half the passes").strategy;
      other.micro_batch *= 2;
      other.accumulation /= 2;
    }
    if (s.micro_batch % 2 == 0 && !plan_.job.training.update_in_backward) {
      Strategy& other =
          add("--micro-batch " + std::to_string(s.micro_batch / 2), "twice the passes").strategy;
      other.micro_batch /= 2;
      other.accumulation *= 2;
    }
  }

  void loss_chunk() {
    const std::int64_t chunk = plan_.strategy.loss_chunk;
    for (const std::int64_t other : {chunk / 4, chunk * 4}) {
      if (other < 1) continue;
      add("--loss-chunk " + std::to_string(other), "").strategy.loss_chunk = other;
    }
  }

  // Rows of known data have their lengths.
  void sequence() {
    if (plan_.data) return;
    const auto job = validate(plan_.job, plan_.model, plan_.data);
    if (!job) return;
    for (const std::int64_t other : {job->sequence / 2, job->sequence * 2}) {
      if (other < 2 || other > plan_.model.positions) continue;
      add("--seq " + std::to_string(other), "").request.data.seq = other;
    }
  }

  void method() {
    const MethodOptions& m = plan_.job.method;
    if (m.method == Method::kFull) {
      add("--method lora", "trains adapters only").request.method.method = Method::kLora;
    } else {
      for (const std::int64_t rank : {m.rank / 2, m.rank * 2}) {
        if (rank < 1) continue;
        add("--rank " + std::to_string(rank), "").request.method.rank = rank;
      }
      if (m.method != Method::kInt8Lora) {
        add("--method int8-lora", "keeps the frozen linears in 8 bits").request.method.method =
            Method::kInt8Lora;
      }
      if (m.method != Method::kQlora) {
        add("--method qlora", "keeps the frozen linears in 4 bits").request.method.method =
            Method::kQlora;
      }
      if (m.method != Method::kLora) {
        add("--method lora", "keeps the frozen linears as they are").request.method.method =
            Method::kLora;
      }
      if (m.method == Method::kQlora) {
        add(m.double_quantization ? "--no-double-quantization" : "--double-quantization", "")
            .request.method.double_quantization = !m.double_quantization;
      }
      add("--method full", "trains every weight").request.method.method = Method::kFull;
    }
    // Of other trainers' optimizers only AdamW is known.
    if (plan_.job.runtime == "ftplan" && m.optimizer == Optimizer::kAdamw) {
      add("--optimizer adamw8bit", "keeps moments in 8 bits").request.method.optimizer =
          Optimizer::kAdamw8bit;
    }
    const Precision other =
        m.precision == Precision::kFp32 ? default_precision(plan_.machine) : Precision::kFp32;
    Knob& precision = add(std::string("--precision ") + to_text(other), "");
    precision.request.method.precision = other;
    precision.request.training.loss_scale.reset();
  }

  const Plan& plan_;
  std::vector<Knob> knobs_;
};

}  // namespace

Result<std::vector<WhatIf>> what_ifs(const Plan& plan) {
  if (auto job = validate(plan.job, plan.model, plan.data); !job) return job.error();
  std::vector<WhatIf> list;
  const Bytes planned = plan.predicted.front().device.peak;
  for (const Knob& knob : Knobs(plan).all()) {
    auto job = validate(knob.request, plan.model, plan.data);
    if (!job) continue;
    auto tried = evaluate({*job, plan.machine, plan.data}, knob.strategy);
    if (!tried) return tried.error();
    const Bytes peak = tried->prediction.device.peak;
    list.push_back({knob.flags, knob.note, peak, peak - planned, tried->judgement.fits});
  }
  return list;
}

}  // namespace ftplan::planner
