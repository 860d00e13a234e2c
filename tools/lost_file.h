#pragma once

/// Files are read as memory, and what a file has lost since it was opened is a signal, not an
/// error of a call.
namespace ftplan::tools {

/// From now on, touching bytes that a mapped file no longer has (it was cut, or its disk has
/// failed) ends the process: one line that names the file, and the exit code of a failed run.
void report_lost_files();

}  // namespace ftplan::tools
