#include <iostream>

#include "models/presets.h"
#include "program/lower.h"

int main() {
  const auto* preset = ftplan::models::find_preset("tinyllama-1.1b");
  const auto job = ftplan::validate({.model = preset->name}, preset->config, {});
  if (!job) return std::cerr << job.error().text() << "\n", 1;
  const auto program = ftplan::program::lower(*job, {}, {}, {});
  if (!program) return std::cerr << program.error().text() << "\n", 1;
  std::cout << "a step of " << preset->name << " has " << program->storages.size() << " storages\n";
}
