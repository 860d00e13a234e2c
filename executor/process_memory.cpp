#include "executor/process_memory.h"

#include <unistd.h>

#include <cstdint>
#include <fstream>

#include "core/units.h"

namespace ftplan::executor {

Bytes resident_bytes() {
  // size resident shared ..., in pages; shared pages are those of files.
  std::ifstream statm("/proc/self/statm");
  std::int64_t size = 0;
  std::int64_t resident = 0;
  std::int64_t shared = 0;
  statm >> size >> resident >> shared;
  return Bytes{(resident - shared) * ::sysconf(_SC_PAGESIZE)};
}

}  // namespace ftplan::executor
