#pragma once

#include <string>
#include <string_view>

/// The few shapes that the charts draw. Coordinates are user units; classes are those of
/// `page.css`.
namespace ftplan::reports {

/// A coordinate with at most one decimal.
std::string number(double value);

/// Words at a point; escaped.
std::string text_at(double x, double y, const char* classes, std::string_view words);

std::string line_at(double x1, double y1, double x2, double y2, const char* classes);

/// A drawing of `width` x `height` that says in words what it shows.
std::string svg(double width, double height, const std::string& words, const std::string& content);

}  // namespace ftplan::reports
