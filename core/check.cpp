#include "core/check.h"

#include <cstdio>
#include <cstdlib>

namespace ftplan {

void check_failed(const char* condition, const char* file, int line) {
  // The one print outside tools/ and executor/: nothing can carry an error any further from here.
  std::fprintf(stderr, "ftplan: bug: %s is false at %s:%d\n", condition, file, line);
  constexpr int kBug =
      1;  // exit_code(ErrorCode::kBug), said here since Result checks itself with this
  std::_Exit(kBug);
}

}  // namespace ftplan
