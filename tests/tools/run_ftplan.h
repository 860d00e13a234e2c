#pragma once

#include <string>

/// Runs the built `ftplan` in a folder of its own.
namespace ftplan::tools {

struct Finished {
  int code = -1;
  std::string out;
  std::string err;
};

/// A folder that is removed with everything in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }
  void write(const std::string& name, const std::string& text) const;
  [[nodiscard]] std::string read(const std::string& name) const;

 private:
  std::string path_;
};

/// `arguments` as a shell would read them; the cache folder is inside `folder`.
Finished ftplan(const TemporaryFolder& folder, const std::string& arguments,
                const std::string& binary = FTPLAN_BINARY);

}  // namespace ftplan::tools
