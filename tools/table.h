#pragma once

#include <string>
#include <vector>

/// Plain tables for the terminal.
namespace ftplan::tools {

struct Table {
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
  std::size_t left = 1;  ///< columns that are aligned left; the others hold numbers
};

/// Columns two blanks apart, without blanks at the end of a line.
std::string render_table(const Table& table);

}  // namespace ftplan::tools
