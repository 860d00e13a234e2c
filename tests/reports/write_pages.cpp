// Writes the pages that browser_test.py looks at, into the folder that is its argument.

#include <cstddef>
#include <fstream>
#include <iostream>
#include <string>

#include "reports/report.h"
#include "support.h"

namespace ftplan::reports {
namespace {

bool write(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  return file.flush().good();
}

ReportInput plan_alone() {
  return {.plan = toy_plan(), .timelines = {}, .result = {}, .metrics = {}};
}

ReportInput different() {
  ReportInput input = toy_report();
  input.timelines = {toy_timeline(5000)};
  input.result->ranks[0].measured.device.activations += Bytes{64};
  input.result->ranks[0].measured.device.peak += Bytes{64};
  return input;
}

ReportInput hostile() {
  ReportInput input = toy_report();
  const std::string evil =
      "<script>document.title='broken'</script><img src=x onerror=document.title='broken'>\"'&";
  input.plan.model.name = evil;
  input.plan.why = {evil};
  input.plan.runners_up[0].lost_by = evil;
  input.plan.predicted[0].peak_instruction = evil;
  input.plan.digests.data = evil;
  input.layout->device = input.layout->parts[1].name = evil;
  for (Instant& instant : input.timelines[0].instants) instant.operation = instant.phase = evil;
  return input;
}

}  // namespace
}  // namespace ftplan::reports

int main(int count, char** words) {
  using namespace ftplan::reports;
  if (count != 2) return std::cerr << "usage: write_pages FOLDER\n", 2;
  const std::string folder = words[1];
  const bool written = write(folder + "/whole.html", render_html(toy_report())) &&
                       write(folder + "/plan.html", render_html(plan_alone())) &&
                       write(folder + "/different.html", render_html(different())) &&
                       write(folder + "/hostile.html", render_html(hostile())) &&
                       write(folder + "/whole.txt", render_terminal(toy_report()));
  return written ? 0 : 1;
}
