// Loaded into a process, its wall clock goes back by a minute each time that it is asked.
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

namespace {

time_t wrong_time() {
  static time_t now = 2'000'000'000;
  return now -= 60;
}

}  // namespace

extern "C" int clock_gettime(clockid_t clock, timespec* to) {
  using Function = int (*)(clockid_t, timespec*);
  static const auto kReal = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "clock_gettime"));
  if (clock != CLOCK_REALTIME) return kReal(clock, to);
  *to = {.tv_sec = wrong_time(), .tv_nsec = 0};
  return 0;
}

extern "C" int gettimeofday(timeval* to, void* /*zone*/) {
  *to = {.tv_sec = wrong_time(), .tv_usec = 0};
  return 0;
}

extern "C" time_t time(time_t* to) {
  const time_t now = wrong_time();
  if (to != nullptr) *to = now;
  return now;
}
