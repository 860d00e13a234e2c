#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"

/// Flags and subcommands, with the parser's library kept inside `options.cpp`.
namespace ftplan::tools {

/// How a flag is shown in `--help`.
struct FlagText {
  std::string flag;  ///< `--micro-batch`, or `-o,--output`
  std::string type;  ///< `INT`
  std::string help;
  std::string group = "Options";
};

/// What a subcommand takes. Targets must outlive the parse.
class Options {
 public:
  explicit Options(void* app) : app_(app) {}
  /// One value; left alone when the flag is not given.
  void value(const FlagText& text, std::optional<std::string>& target);
  /// One or more values after one flag, or the flag more than once.
  void values(const FlagText& text, std::vector<std::string>& target);
  /// `--name`, and `--no-name` where the text says so: `--shuffle,!--no-shuffle`.
  void toggle(const FlagText& text, std::optional<bool>& target);
  void toggle(const FlagText& text, bool& target);
  /// A required argument without a flag.
  void argument(const FlagText& text, std::string& target);
  /// One that may be left out.
  void optional_argument(const FlagText& text, std::optional<std::string>& target);

 private:
  void* app_;  ///< CLI::App
};

/// One subcommand.
class Command {
 public:
  Command() = default;
  virtual ~Command() = default;
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;
  virtual void declare(Options& options) = 0;
  /// @return exit code
  virtual Result<int> run() = 0;
};

struct CommandRow {
  const char* name;
  const char* help;
  const char* example;
  std::function<std::unique_ptr<Command>()> make;
};

/// Parses `arguments` (without the program's name), runs the command that they name and returns the
/// exit code. Errors go to standard error as one line.
int run_commands(const std::vector<CommandRow>& commands,
                 const std::vector<std::string>& arguments);

/// `ftplan: text` on standard error, unless somebody else tells it.
void print_error(const Error& error);
/// Who is told of errors first; true: nothing is to be printed.
void tell_errors_to(std::function<bool(const Error&)> listener);

/// Why the file that `flag` names was not written: bad input where its folder does not exist, else
/// what failed.
Error write_error(const std::string& flag, const std::string& path, const Error& error);

}  // namespace ftplan::tools
