#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/job.h"
#include "core/result.h"
#include "tools/options.h"

namespace ftplan::tools {

/// The flags of a `JobRequest`, made from `fields<...>` of its option structs: the JSON key
/// `micro_batch` is the flag
/// `--micro-batch`. Errors name the flag.
class JobFlags {
 public:
  JobFlags();
  void declare(Options& options);
  /// Only those that decide what the data becomes.
  void declare_data(Options& options);
  /// Those of a model in use: model, adapter, precision, how records become texts.
  void declare_use(Options& options);
  /// Those of data that a model is evaluated on.
  void declare_evaluated(Options& options);
  /// The request of `--job FILE`, or the defaults, with what flags say put over it.
  /// @error a file that cannot be read, a value of a wrong type or out of range, no model
  [[nodiscard]] Result<JobRequest> read() const;
  /// The same over `request` in place of defaults; --job is then refused.
  [[nodiscard]] Result<JobRequest> read_over(JobRequest request) const;
  /// Whether the flag was given: `given("method")`.
  [[nodiscard]] bool given(const std::string& name) const;

 private:
  struct Flag {
    std::string name;
    FlagText text;
    bool is_switch = false;
    bool is_list = false;
    std::optional<std::string> value;
    std::vector<std::string> values;
    std::optional<bool> on;
    std::function<Result<void>(JobRequest&, const Flag&)> set;
    [[nodiscard]] bool given() const { return value || on || !values.empty(); }
  };
  static void declare(Options& options, Flag& flag);
  void declare_named(Options& options, std::initializer_list<std::string_view> names);
  [[nodiscard]] Result<JobRequest> with_flags(JobRequest request) const;
  template <class Owner>
  void add_fields(Owner JobRequest::* owner, const char* group);
  template <class Value, class Access>
  void add(const char* name, const char* unit, Range range, const char* help, const char* group,
           Access access);

  std::optional<std::string> job_file_;
  std::vector<std::unique_ptr<Flag>> flags_;
};

}  // namespace ftplan::tools
