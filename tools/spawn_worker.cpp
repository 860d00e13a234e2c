#include "tools/spawn_worker.h"

#include <fcntl.h>
#include <linux/limits.h>
#include <linux/prctl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/result.h"
#include "models/files.h"

namespace ftplan::tools {
namespace {

constexpr const char* kWorker = "ftplan-worker";

// More ranks do not fit on one host.
constexpr std::size_t kMostWorkers = 4096;
volatile std::sig_atomic_t worker_ids[kMostWorkers];
volatile std::sig_atomic_t worker_count = 0;

// The terminal signals the whole group; a second signal would mean "now" to the worker.
void pass_on(int number, siginfo_t* info, void* /*context*/) {
  if (info->si_code != SI_USER && info->si_code != SI_QUEUE) return;
  for (int i = 0; i < worker_count; ++i) {
    if (worker_ids[i] > 0) kill(static_cast<pid_t>(worker_ids[i]), number);
  }
}

void catch_signals() {
  struct sigaction action{};
  action.sa_sigaction = pass_on;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

std::string own_folder() {
  std::array<char, PATH_MAX> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  return length <= 0
             ? "."
             : models::folder_of(std::string(path.data(), static_cast<std::size_t>(length)));
}

// Pointers to the texts, ended by null, as exec wants them.
std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

[[noreturn]] void become_worker(const std::vector<std::string>& arguments, const WorkerStart& start,
                                pid_t parent, const sigset_t& mask) {
  sigprocmask(SIG_SETMASK, &mask, nullptr);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(exit_code(ErrorCode::kInterrupted));
  for (const int descriptor : start.descriptors) fcntl(descriptor, F_SETFD, 0);
  std::vector<std::string> variables = start.variables;
  for (char** each = environ; *each != nullptr; ++each) {
    const std::string_view name =
        std::string_view(*each).substr(0, std::string_view(*each).find('='));
    const bool given = std::any_of(
        start.variables.begin(), start.variables.end(),
        [&](const std::string& own) { return own.starts_with(name) && own[name.size()] == '='; });
    if (!given) variables.emplace_back(*each);
  }
  execve(arguments.front().c_str(), pointers_to(arguments).data(), pointers_to(variables).data());
  _exit(127);
}

}  // namespace

std::string find_worker() {
  const std::string folder = own_folder();
  for (const std::string& place : {folder, folder + "/../libexec/ftplan"}) {
    const std::string path = models::join_path(place, kWorker);
    if (access(path.c_str(), X_OK) == 0 && models::is_file(path)) return path;
  }
  return "";
}

Result<Workers> Workers::start(const std::vector<std::string>& arguments,
                               const std::vector<WorkerStart>& starts) {
  const std::string path = find_worker();
  const std::string& command = arguments.empty() ? kWorker : arguments.front();
  if (path.empty()) {
    return bad_input(
        command,
        std::string(kWorker) +
            " is missing (it needs LibTorch): run tools/setup worker, then build the target " +
            kWorker);
  }
  if (starts.size() > kMostWorkers)
    return bad_input("--gpus", std::to_string(starts.size()) + " ranks do not fit on one host");
  std::vector<std::string> words = {path};
  words.insert(words.end(), arguments.begin(), arguments.end());
  // No signal may fall between the forks and the handlers.
  sigset_t both;
  sigset_t before;
  sigemptyset(&both);
  sigaddset(&both, SIGINT);
  sigaddset(&both, SIGTERM);
  sigprocmask(SIG_BLOCK, &both, &before);
  const pid_t parent = getpid();
  Workers workers;
  int fork_error = 0;
  for (const WorkerStart& start : starts) {
    const pid_t child = fork();
    if (child == 0) become_worker(words, start, parent, before);
    if (child < 0) {
      fork_error = errno;
      break;
    }
    worker_ids[workers.ids_.size()] = child;
    workers.ids_.push_back(child);
    worker_count = static_cast<std::sig_atomic_t>(workers.ids_.size());
  }
  workers.running_ = workers.ids_.size();
  if (workers.running_ > 0) catch_signals();
  sigprocmask(SIG_SETMASK, &before, nullptr);
  if (fork_error == 0) return workers;
  workers.signal(SIGKILL);
  while (workers.running() > 0) workers.next_end();
  return run_failed(kWorker, models::system_text(fork_error));
}

std::optional<WorkerEnd> Workers::next_end(std::optional<std::chrono::milliseconds> limit) {
  constexpr std::chrono::milliseconds kPause{5};
  const auto end = std::chrono::steady_clock::now() + limit.value_or(std::chrono::milliseconds{});
  while (true) {
    int status = 0;
    const pid_t child = waitpid(-1, &status, limit ? WNOHANG : 0);
    const auto found = std::find(ids_.begin(), ids_.end(), child);
    if (child > 0 && found != ids_.end()) {
      const auto worker = static_cast<std::size_t>(found - ids_.begin());
      worker_ids[worker] = 0;
      *found = 0;
      --running_;
      return WorkerEnd{worker, status};
    }
    if (!limit) continue;
    if (std::chrono::steady_clock::now() >= end) return std::nullopt;
    std::this_thread::sleep_for(kPause);
  }
}

void Workers::signal(int number) const {
  for (const pid_t id : ids_) {
    if (id > 0) kill(id, number);
  }
}

Result<int> exit_of(const WorkerEnd& end) {
  if (WIFEXITED(end.status)) {
    if (WEXITSTATUS(end.status) == 127) return run_failed(kWorker, "cannot be started");
    return WEXITSTATUS(end.status);
  }
  const int number = WTERMSIG(end.status);
  if (number == SIGINT || number == SIGTERM) return exit_code(ErrorCode::kInterrupted);
  const std::string why = number == SIGKILL ? ", perhaps because memory had run out" : "";
  return run_failed(kWorker, "was ended by signal " + std::to_string(number) + why +
                                 "; what was saved is kept: run again");
}

Result<int> spawn_worker(const std::vector<std::string>& arguments) {
  auto workers = Workers::start(arguments, {WorkerStart{}});
  if (!workers) return workers.error();
  return exit_of(*workers->next_end());
}

}  // namespace ftplan::tools
