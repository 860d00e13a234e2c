#include <memory>

#include "core/result.h"
#include "tools/commands.h"
#include "tools/options.h"
#include "tools/written_folder.h"

namespace ftplan::tools {
namespace {

class Convert : public Command {
 public:
  void declare(Options& options) override { folder_.declare(options); }

  Result<int> run() override {
    const auto request = folder_.open();
    if (!request) return request.error();
    if (!folder_.names_numbers())
      return bad_input("--into", "missing: name the numbers, such as nf4");
    return folder_.write(*request, "");
  }

 private:
  WrittenFolder folder_;
};

}  // namespace

CommandRow convert_command() {
  return {"convert", "Writes a model in other numbers: floats, or codes of bitsandbytes.",
          "ftplan convert --model M --into nf4 -o quantized",
          [] { return std::make_unique<Convert>(); }};
}

}  // namespace ftplan::tools
