#include "tools/guarded_main.h"

#include <exception>
#include <functional>
#include <new>

#include "core/result.h"
#include "tools/lost_file.h"
#include "tools/options.h"

namespace ftplan::tools {

int guarded_main(const std::function<int()>& run) {
  report_lost_files();
  Error error;
  try {
    return run();
  } catch (const std::bad_alloc&) {
    error = run_failed("memory",
                       "the system gives no more: close other programs; what was saved is kept, "
                       "run again");
  } catch (const std::exception& exception) {
    error = {ErrorCode::kBug, "", exception.what()};
  }
  print_error(error);
  return exit_code(error.code);
}

}  // namespace ftplan::tools
