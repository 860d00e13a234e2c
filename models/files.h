#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

/// Small files and names of files. Errors are one line that starts with the file.
namespace ftplan::models {

bool is_file(const std::string& path);
bool is_folder(const std::string& path);

/// `folder/name`
std::string join_path(const std::string& folder, const std::string& name);

/// The folder that holds `path`; `.` for a bare name.
std::string folder_of(const std::string& path);

/// `path` from the root; itself where the system cannot tell.
std::string absolute_path(const std::string& path);

/// The last part of a path, also of `folder/`.
std::string last_part(const std::string& path);

/// Whether `name` stays inside the folder it is relative to: neither absolute nor with a `..` in
/// it.
bool stays_inside(std::string_view name);

/// `text` in quotes on one line: what does not print is escaped, what is too long is cut.
std::string in_quotes(std::string_view text);

/// The whole file.
/// @error the file cannot be read, or is larger than any text that belongs to a model
Result<std::string> read_text_file(const std::string& path);

/// Writes a file that is either the old one or complete, also after a crash.
Result<void> write_text_file(const std::string& path, std::string_view text);

/// Makes a folder and those above it; one that is there is fine.
Result<void> make_folder(const std::string& path);

/// Text of an `errno`.
std::string system_text(int error_number);

}  // namespace ftplan::models
