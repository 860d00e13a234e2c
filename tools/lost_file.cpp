#include "tools/lost_file.h"

#include <fcntl.h>
#include <linux/limits.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "core/result.h"

// What follows runs inside a signal handler: no allocation, no locks, no library that may use them.
namespace ftplan::tools {
namespace {

// A line of /proc/self/maps: `7f00-7f10 r--p 00000000 fe:00 123    /path`.
struct MapsLine {
  std::uint64_t begin = 0, end = 0;
  std::string_view path;
};

std::uint64_t take_hex(std::string_view& text) {
  std::uint64_t value = 0;
  for (; !text.empty(); text.remove_prefix(1)) {
    const char c = text.front();
    const bool letter = c >= 'a' && c <= 'f';
    if (!letter && (c < '0' || c > '9')) break;
    value = value * 16 + static_cast<std::uint64_t>(letter ? c - 'a' + 10 : c - '0');
  }
  return value;
}

MapsLine read_line(std::string_view text) {
  MapsLine line;
  line.begin = take_hex(text);
  if (!text.empty()) text.remove_prefix(1);
  line.end = take_hex(text);
  const std::size_t path = text.find('/');
  if (path != std::string_view::npos) line.path = text.substr(path);
  return line;
}

class MapsReader {
 public:
  MapsReader() : file_(::open("/proc/self/maps", O_RDONLY | O_CLOEXEC)) {}
  ~MapsReader() {
    if (file_ >= 0) ::close(file_);
  }
  MapsReader(const MapsReader&) = delete;
  MapsReader& operator=(const MapsReader&) = delete;

  // The next line without its end; false when there is none.
  bool next(std::string_view& line) {
    std::memmove(buffer_.data(), buffer_.data() + used_, filled_ - used_);
    filled_ -= used_;
    used_ = 0;
    for (;;) {
      const std::string_view seen(buffer_.data(), filled_);
      const std::size_t end = seen.find('\n');
      if (end != std::string_view::npos) {
        line = seen.substr(0, end);
        used_ = end + 1;
        return true;
      }
      const ssize_t read = ::read(file_, buffer_.data() + filled_, buffer_.size() - filled_);
      if (read <= 0) return false;
      filled_ += static_cast<std::size_t>(read);
    }
  }

 private:
  int file_;
  std::array<char, PATH_MAX + 128> buffer_{};
  std::size_t filled_ = 0, used_ = 0;
};

void say(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

void on_lost_bytes(int number, siginfo_t* info, void* /*context*/) {
  const auto address = reinterpret_cast<std::uint64_t>(info->si_addr);
  MapsReader maps;
  for (std::string_view text; maps.next(text);) {
    const MapsLine line = read_line(text);
    if (address < line.begin || address >= line.end || line.path.empty()) continue;
    say("ftplan: ");
    say(line.path);
    say(": can no longer be read: it was cut while it was in use, or its disk has failed; what was "
        "saved is kept: run again when the file is whole\n");
    ::_exit(exit_code(ErrorCode::kRunFailed));
  }
  ::signal(number, SIG_DFL);  // no file's: as if nobody had listened
  ::raise(number);
}

}  // namespace

void report_lost_files() {
  struct sigaction action{};
  action.sa_sigaction = on_lost_bytes;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace ftplan::tools
