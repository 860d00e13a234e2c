#include "tools/launch.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "tools/network.h"
#include "tools/spawn_worker.h"

namespace ftplan::tools {
namespace {

constexpr const char* kSocket = "FTPLAN_MEETING_SOCKET";
constexpr const char* kErrors = "FTPLAN_ERROR_PIPE";

// In which ranks find out why one of them has failed; then in which they end when asked to.
constexpr std::chrono::milliseconds kGrace{5'000};

std::string pair_of(const char* name, std::int64_t value) {
  return std::string(name) + "=" + std::to_string(value);
}

// A descriptor from a launcher, as a variable has it.
std::optional<int> descriptor_in(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  int number = -1;
  const std::string_view digits = text;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size() || number < 0)
    return std::nullopt;
  return number;
}

struct Rank {
  int errors = -1;  // end of a pipe
  bool ended = false;
  bool asked = false;  // it ended after it was asked to
  WorkerEnd end;
  std::optional<Error> error;
};

std::optional<Error> read_error(int pipe) {
  std::string text;
  std::array<char, 4096> block{};
  for (ssize_t size = 0; (size = read(pipe, block.data(), block.size())) > 0;)
    text.append(block.data(), static_cast<std::size_t>(size));
  const auto json = parse_json(text, kErrors);
  if (!json) return std::nullopt;
  return Error{static_cast<ErrorCode>(json->value("code", 0)), json->value("where", ""),
               json->value("message", "")};
}

// Whether it speaks of a rank, and not of what this one did itself.
bool speaks_of_a_rank(const Error& error) { return error.where.starts_with("rank"); }

class Launch {
 public:
  Launch(const std::vector<std::string>& arguments, const LocalRanks& local)
      : arguments_(arguments), local_(local), ranks_(static_cast<std::size_t>(local.count)) {}

  Result<int> run() {
    auto socket = meeting_socket();
    if (!socket) return socket.error();
    std::vector<WorkerStart> starts;
    std::vector<int> ends;
    for (std::size_t i = 0; i < ranks_.size(); ++i) {
      std::array<int, 2> ends_of_pipe{};
      if (pipe2(ends_of_pipe.data(), O_CLOEXEC) != 0)
        return run_failed(
            "ftplan", "too many files are open for " + std::to_string(ranks_.size()) + " ranks");
      ranks_[i].errors = ends_of_pipe[0];
      ends.push_back(ends_of_pipe[1]);
      starts.push_back(start_of(i, *socket, ends_of_pipe[1]));
    }
    auto workers = Workers::start(arguments_, starts);
    for (const int end : ends) close(end);
    if (*socket) close((*socket)->descriptor);
    if (!workers) return workers.error();
    wait_for(*workers);
    return outcome();
  }

 private:
  Result<std::optional<BoundSocket>> meeting_socket() {
    if (local_.first > 0) return std::optional<BoundSocket>{};
    auto bound = bind_socket(local_.address, local_.port);
    if (!bound) return bound.error();
    fcntl(bound->descriptor, F_SETFD, FD_CLOEXEC);
    local_.port = bound->port;
    return std::optional(*bound);
  }

  [[nodiscard]] WorkerStart start_of(std::size_t i, const std::optional<BoundSocket>& socket,
                                     int errors) const {
    const auto local = static_cast<std::int64_t>(i);
    WorkerStart start{
        .variables = {pair_of("RANK", local_.first + local), pair_of("WORLD_SIZE", local_.ranks),
                      pair_of("LOCAL_RANK", local), pair_of("LOCAL_WORLD_SIZE", local_.count),
                      "MASTER_ADDR=" + local_.address, pair_of("MASTER_PORT", local_.port),
                      pair_of(kErrors, errors)},
        .descriptors = {errors}};
    if (i == 0 && socket) {
      start.variables.push_back(pair_of(kSocket, socket->descriptor));
      start.descriptors.push_back(socket->descriptor);
    }
    return start;
  }

  void wait_for(Workers& workers) {
    bool failed = false;
    bool asked = false;
    while (workers.running() > 0) {
      const auto end = failed ? workers.next_end(kGrace) : workers.next_end();
      if (!end) {
        workers.signal(asked ? SIGKILL : SIGTERM);
        // What is stopped hears no other signal.
        if (!asked) workers.signal(SIGCONT);
        asked = true;
        continue;
      }
      Rank& rank = ranks_[end->worker];
      rank.end = *end;
      rank.ended = true;
      rank.asked = asked;
      rank.error = read_error(rank.errors);
      close(rank.errors);
      if (!first_) first_ = is_failure(*end) ? std::optional(end->worker) : std::nullopt;
      failed = failed || is_failure(*end);
    }
  }

  static bool is_failure(const WorkerEnd& end) {
    return !WIFEXITED(end.status) || WEXITSTATUS(end.status) != 0;
  }

  [[nodiscard]] std::string name_of(std::size_t i) const {
    return "rank " + std::to_string(local_.first + static_cast<std::int64_t>(i));
  }

  // Whom to blame: who was ended by a signal of somebody else, who says what it did itself, or
  // whoever was the first to end.
  [[nodiscard]] Result<int> outcome() const {
    if (!first_) return 0;
    for (std::size_t i = 0; i < ranks_.size(); ++i) {
      if (!WIFSIGNALED(ranks_[i].end.status) || ranks_[i].asked) continue;
      const auto code = exit_of(ranks_[i].end);
      if (!code) return Error{code.error().code, name_of(i), code.error().message};
    }
    for (std::size_t i = 0; i < ranks_.size(); ++i) {
      const auto& error = ranks_[i].error;
      if (!error || speaks_of_a_rank(*error)) continue;
      return i == 0 && local_.first == 0 ? *error : Error{error->code, name_of(i), error->text()};
    }
    if (ranks_[*first_].error) return *ranks_[*first_].error;
    return exit_of(ranks_[*first_].end);
  }

  const std::vector<std::string>& arguments_;
  LocalRanks local_;
  std::vector<Rank> ranks_;
  std::optional<std::size_t> first_;  // to end with a failure
};

}  // namespace

Result<int> launch_ranks(const std::vector<std::string>& arguments, const LocalRanks& local) {
  return Launch(arguments, local).run();
}

bool report_to_launcher(const Error& error) {
  const auto pipe = descriptor_in(kErrors);
  if (!pipe) return false;
  const Json json = {
      {"code", static_cast<int>(error.code)}, {"where", error.where}, {"message", error.message}};
  const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  return write(*pipe, text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

std::optional<int> inherited_socket() { return descriptor_in(kSocket); }

}  // namespace ftplan::tools
