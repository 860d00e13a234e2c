#include "tools/spawn_worker.h"

#include <linux/limits.h>
#include <linux/prctl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstddef>
#include <string>
#include <vector>

#include "core/result.h"
#include "models/files.h"

namespace ftplan::tools {
namespace {

constexpr const char* kWorker = "ftplan-worker";

volatile std::sig_atomic_t worker_id = 0;

// The terminal signals the whole group; a second signal would mean "now" to the worker.
void pass_on(int number, siginfo_t* info, void* /*context*/) {
  const bool from_process = info->si_code == SI_USER || info->si_code == SI_QUEUE;
  if (from_process && worker_id > 0) kill(static_cast<pid_t>(worker_id), number);
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

[[noreturn]] void become_worker(const std::string& path, const std::vector<std::string>& arguments,
                                pid_t parent, const sigset_t& mask) {
  sigprocmask(SIG_SETMASK, &mask, nullptr);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(exit_code(ErrorCode::kInterrupted));
  std::vector<char*> argv = {const_cast<char*>(path.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(path.c_str(), argv.data());
  _exit(127);
}

Result<int> wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return run_failed(kWorker, models::system_text(errno));
  }
  if (WIFEXITED(status)) {
    if (WEXITSTATUS(status) == 127) return run_failed(kWorker, "cannot be started");
    return WEXITSTATUS(status);
  }
  const int number = WTERMSIG(status);
  if (number == SIGINT || number == SIGTERM) return exit_code(ErrorCode::kInterrupted);
  const std::string why = number == SIGKILL ? ", perhaps because memory had run out" : "";
  return run_failed(kWorker, "was ended by signal " + std::to_string(number) + why +
                                 "; what was saved is kept: run again");
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

Result<int> spawn_worker(const std::vector<std::string>& arguments) {
  const std::string path = find_worker();
  const std::string& command = arguments.empty() ? kWorker : arguments.front();
  if (path.empty()) {
    return bad_input(
        command,
        std::string(kWorker) +
            " is missing (it needs LibTorch): run tools/setup worker, then build the target " +
            kWorker);
  }
  // No signal may fall between the fork and the handlers.
  sigset_t both;
  sigset_t before;
  sigemptyset(&both);
  sigaddset(&both, SIGINT);
  sigaddset(&both, SIGTERM);
  sigprocmask(SIG_BLOCK, &both, &before);
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) become_worker(path, arguments, parent, before);
  const int fork_error = errno;
  worker_id = child;
  if (child > 0) catch_signals();
  sigprocmask(SIG_SETMASK, &before, nullptr);
  if (child < 0) return run_failed(kWorker, models::system_text(fork_error));
  return wait_for(child);
}

}  // namespace ftplan::tools
