#include "core/machine.h"

#include <string>

#include "core/digest.h"
#include "core/enums.h"

namespace ftplan {

std::string machine_digest(const Machine& machine) {
  return digest(std::string(to_text(machine.backend)) + "\n" + std::to_string(machine.threads) +
                "\n" + machine.instruction_set + "\n" + machine.torch +
                (machine.native_bf16 ? "" : "\nno bf16 units"));
}

}  // namespace ftplan
