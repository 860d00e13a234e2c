#pragma once

#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "core/check.h"

/// What a function returns when a user, a file or the machine can make it fail.
namespace ftplan {

/// Why something failed; the exit code of the program follows from it.
enum class ErrorCode {
  kBug,          ///< exit 1: ftplan itself is wrong
  kBadInput,     ///< exit 2: a file, a flag, or a plan made for something else
  kInfeasible,   ///< exit 3: it does not fit
  kRunFailed,    ///< exit 4: the machine or the numbers failed during a run
  kInterrupted,  ///< exit 130: asked to stop; the state is saved
};

/// `where: message`, one line: got what, expected what, what to do.
struct Error {
  ErrorCode code = ErrorCode::kBadInput;
  std::string where;
  std::string message;

  /// The line that the user sees, without the program's name.
  [[nodiscard]] std::string text() const {
    return where.empty() ? message : where + ": " + message;
  }
};

inline Error bad_input(std::string where, std::string message) {
  return {ErrorCode::kBadInput, std::move(where), std::move(message)};
}
inline Error run_failed(std::string where, std::string message) {
  return {ErrorCode::kRunFailed, std::move(where), std::move(message)};
}

/// Exit code of a process that ends with this error.
constexpr int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kBug:
      return 1;
    case ErrorCode::kBadInput:
      return 2;
    case ErrorCode::kInfeasible:
      return 3;
    case ErrorCode::kRunFailed:
      return 4;
    case ErrorCode::kInterrupted:
      return 130;
  }
  return 1;
}

/// A `T` or an `Error`. Reading the one that is not there is a bug and aborts.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { return check_ok(), std::get<0>(state_); }
  const T& value() const& { return check_ok(), std::get<0>(state_); }
  T&& value() && { return check_ok(), std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  [[nodiscard]] const Error& error() const {
    FTPLAN_CHECK(!ok());
    return std::get<1>(state_);
  }

 private:
  void check_ok() const { FTPLAN_CHECK(ok()); }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  [[nodiscard]] const Error& error() const {
    FTPLAN_CHECK(!ok());
    return *error_;
  }

 private:
  std::optional<Error> error_;
};

}  // namespace ftplan
