#include "tools/options.h"

#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "core/text.h"
#include "models/files.h"
#include "tools/version.h"

namespace ftplan::tools {
namespace {

CLI::App& app_of(void* app) { return *static_cast<CLI::App*>(app); }

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

std::vector<std::string> flag_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

// What was not expected, and what may have been meant.
Error unexpected(const CLI::App& root, const std::vector<CommandRow>& commands) {
  const auto parsed = root.get_subcommands();
  if (parsed.empty()) {
    const std::vector<std::string> rest = root.remaining();
    const std::string word = rest.empty() ? "" : rest.front();
    if (word.starts_with("-"))
      return bad_input(word, "unknown flag; did you mean " + nearest(word, flag_names(root)) + "?");
    std::vector<std::string> names;
    for (const CommandRow& row : commands) names.emplace_back(row.name);
    return bad_input(word, "unknown command; did you mean " + nearest(word, names) + "?");
  }
  const std::vector<std::string> rest = root.remaining(/*recurse=*/true);
  const std::string word = rest.empty() ? "" : rest.front().substr(0, rest.front().find('='));
  if (!word.starts_with("-")) {
    return bad_input(word,
                     "not expected here: see ftplan " + parsed.front()->get_name() + " --help");
  }
  return bad_input(
      word, "unknown flag; did you mean " + nearest(word, flag_names(*parsed.front())) + "?");
}

// Leaves out the mark of flags that turn something off.
class HelpText : public CLI::Formatter {
 public:
  [[nodiscard]] std::string make_option_name(const CLI::Option* option,
                                             bool positional) const override {
    constexpr std::string_view kMark = "{false}";
    std::string name = CLI::Formatter::make_option_name(option, positional);
    for (auto at = name.find(kMark); at != std::string::npos; at = name.find(kMark))
      name.erase(at, kMark.size());
    return name;
  }
};

// A flag that nobody knows says more than the argument that is then missing.
bool has_unknown_flag(const CLI::App& root) {
  const std::vector<std::string> rest = root.remaining(/*recurse=*/true);
  return !root.get_subcommands().empty() && !rest.empty() && rest.front().starts_with("-");
}

struct Entry {
  CLI::App* app;
  std::unique_ptr<Command> command;
};

int run_parsed(std::vector<Entry>& entries) {
  for (Entry& entry : entries) {
    if (!entry.app->parsed()) continue;
    const Result<int> code = entry.command->run();
    if (code.ok()) return *code;
    print_error(code.error());
    return exit_code(code.error().code);
  }
  return 0;
}

}  // namespace

void Options::value(const FlagText& text, std::optional<std::string>& target) {
  app_of(app_)
      .add_option_function<std::string>(
          text.flag, [&target](const std::string& given) { target = given; }, text.help)
      ->type_name(text.type)
      ->group(text.group);
}

void Options::values(const FlagText& text, std::vector<std::string>& target) {
  app_of(app_)
      .add_option(text.flag, target, text.help)
      ->type_name(text.type)
      ->group(text.group)
      ->expected(1, -1);
}

void Options::toggle(const FlagText& text, std::optional<bool>& target) {
  app_of(app_)
      .add_flag_function(
          text.flag, [&target](std::int64_t count) { target = count > 0; }, text.help)
      ->group(text.group);
}

void Options::toggle(const FlagText& text, bool& target) {
  app_of(app_).add_flag(text.flag, target, text.help)->group(text.group);
}

void Options::argument(const FlagText& text, std::string& target) {
  app_of(app_).add_option(text.flag, target, text.help)->type_name(text.type)->required();
}

void Options::optional_argument(const FlagText& text, std::optional<std::string>& target) {
  app_of(app_).add_option(text.flag, target, text.help)->type_name(text.type);
}

namespace {

std::function<bool(const Error&)>& error_listener() {
  static std::function<bool(const Error&)> listener;
  return listener;
}

}  // namespace

void tell_errors_to(std::function<bool(const Error&)> listener) {
  error_listener() = std::move(listener);
}

void print_error(const Error& error) {
  if (error_listener() && error_listener()(error)) return;
  std::fputs(("ftplan: " + error.text() + "\n").c_str(), stderr);
}

Error write_error(const std::string& flag, const std::string& path, const Error& error) {
  const std::string folder = models::folder_of(path);
  if (models::is_folder(folder)) return error;
  return bad_input(flag, "got " + path + ", but there is no folder " + folder + ": make it first");
}

int run_commands(const std::vector<CommandRow>& commands,
                 const std::vector<std::string>& arguments) {
  // A write beyond the limit on files is then an error that names its file.
  std::signal(SIGXFSZ, SIG_IGN);
  CLI::App root("ftplan: plans, predicts and runs the fine-tuning of language models.", "ftplan");
  root.set_version_flag("--version", std::string("ftplan ") + kVersion);
  root.require_subcommand(0, 1);
  root.footer(
      "Example: ftplan estimate --model llama2-7b --gpus 1xA100-80GB\nftplan COMMAND --help tells "
      "more.");
  root.formatter(std::make_shared<HelpText>());
  std::vector<Entry> entries;
  for (const CommandRow& row : commands) {
    CLI::App* app = root.add_subcommand(row.name, row.help);
    app->footer(std::string("Example: ") + row.example);
    Entry entry{app, row.make()};
    Options options(app);
    entry.command->declare(options);
    entries.push_back(std::move(entry));
  }
  try {
    root.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ExtrasError&) {
    print_error(unexpected(root, commands));
    return exit_code(ErrorCode::kBadInput);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return root.exit(error);
    print_error(has_unknown_flag(root) ? unexpected(root, commands)
                                       : bad_input("", one_line(error.what())));
    return exit_code(ErrorCode::kBadInput);
  }
  if (root.get_subcommands().empty()) {
    std::fputs(root.help().c_str(), stderr);
    return exit_code(ErrorCode::kBadInput);
  }
  return run_parsed(entries);
}

}  // namespace ftplan::tools
