#include "reports/svg.h"

#include <cmath>
#include <string>
#include <string_view>

#include "core/text.h"
#include "reports/markup.h"

namespace ftplan::reports {

std::string number(double value) { return format_number(std::round(value * 10) / 10); }

std::string text_at(double x, double y, const char* classes, std::string_view words) {
  return tag("text", {{"x", number(x)}, {"y", number(y)}, {"class", classes}}, escape_html(words));
}

std::string line_at(double x1, double y1, double x2, double y2, const char* classes) {
  const std::string path =
      "M" + number(x1) + " " + number(y1) + "L" + number(x2) + " " + number(y2);
  return tag("path", {{"class", classes}, {"d", path}}, "");
}

std::string svg(double width, double height, const std::string& words, const std::string& content) {
  return tag("svg",
             {{"viewBox", "0 0 " + number(width) + " " + number(height)},
              {"role", "img"},
              {"aria-label", words}},
             content);
}

}  // namespace ftplan::reports
