#include <cstdio>
#include <string>
#include <vector>

#include "tools/commands.h"

namespace ftplan::tools {

const std::vector<WorkerCommand>& worker_commands() {
  static const std::vector<WorkerCommand> kCommands = {
      {"run", "Fine-tunes as planned; resumes by itself.", "ftplan run plan.json --output out"},
      {"eval", "Loss and perplexity of a model on data.",
       "ftplan eval --model M --data held_out.jsonl"},
      {"generate", "Text from a model and an adapter.",
       "ftplan generate --model M --prompt \"Once\""},
      {"calibrate", "Measures what operations need on this machine.",
       "ftplan calibrate plan.json"}};
  return kCommands;
}

void print(const std::string& text) { std::fputs(text.c_str(), stdout); }

}  // namespace ftplan::tools
