"""Holds the code to docs/architecture.md: who includes and links whom, who has effects, what no file may say.

The first class proves on toy files that each rule catches what it is for; the second applies them to this checkout.
"""

import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import rules

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ALL = {"core", "models", "data", "program", "estimator", "planner", "executor", "reports", "tools"}
SKIPPED = {"build", ".git"}


def project_files():
    """Tracked and new files, or, outside git, every file that is not built."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return sorted(name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file())
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*")
                  if path.is_file() and path.relative_to(ROOT).parts[0] not in SKIPPED and path.suffix != ".pyc")


class RulesCatchWhatTheyAreFor(unittest.TestCase):
    rooms = rules.Rooms(TABLE)

    def problems(self, path, text, files=()):
        return rules.check_source(self.rooms, path, text, lambda name: name in files)

    def refused(self, path, text, words, files=()):
        found = self.problems(path, text, files)
        self.assertEqual(len(found), 1, found)
        self.assertIn(words, found[0])
        self.assertTrue(found[0].startswith(path + ":"), found[0])

    def allowed(self, path, text, files=()):
        self.assertEqual(self.problems(path, text, files), [])

    def test_the_table_has_every_room(self):
        self.assertEqual(set(self.rooms.arrows), ALL)
        self.assertEqual(self.rooms.arrows["core"], {"core"})
        self.assertEqual(self.rooms.arrows["reports"], {"core", "reports"})
        self.assertEqual(self.rooms.arrows["tools"], ALL)

    def test_every_arrow_that_the_table_lacks(self):
        for room in ALL:
            for target in ALL:
                text = f'#include "{target}/x.h"\n'
                if target in self.rooms.arrows[room]:
                    self.allowed(f"{room}/a.cpp", text, {f"{target}/x.h"})
                else:
                    self.refused(f"{room}/a.cpp", text, f"{room}/ may not include {target}/", {f"{target}/x.h"})

    def test_the_executor_does_not_see_the_planner(self):
        self.refused("executor/run.cpp", '#include <string>\n#include "planner/search.h"\n', "run.cpp:2",
                     {"planner/search.h"})

    def test_includes_are_rooted_at_the_repository(self):
        self.refused("core/a.cpp", '#include "a.h"\n', "rooted", {"core/a.h"})
        self.refused("core/a.cpp", '#include "../core/a.h"\n', "rooted", {"core/a.h"})
        self.refused("core/a.cpp", "#include <core/a.h>\n", "in quotes", {"core/a.h"})
        self.refused("core/a.cpp", '  #  include "models/a.h"\n', "may not include models/", {"models/a.h"})

    def test_a_header_may_be_made_from_a_template(self):
        self.allowed("tools/main.cpp", '#include "tools/version.h"\n', {"tools/version.h.in"})
        self.refused("core/main.cpp", '#include "tools/version.h"\n', "may not include", {"tools/version.h.in"})

    def test_rooms_do_not_include_tests(self):
        self.refused("core/a.cpp", '#include "tests/core/support.h"\n', "may not", {"tests/core/support.h"})
        self.allowed("tests/core/a.cpp", '#include "support.h"\n#include <gtest/gtest.h>\n', {"tests/core/support.h"})

    def test_libraries_by_room(self):
        self.allowed("core/json.h", "#include <nlohmann/json.hpp>\n")
        self.refused("reports/html.cpp", "#include <nlohmann/json.hpp>\n", "may not include nlohmann/json")
        self.refused("planner/search.cpp", "#include <CLI/CLI.hpp>\n", "may not include CLI11")
        self.refused("models/load.cpp", "#include <boost/any.hpp>\n", "unknown library")
        self.refused("core/a.cpp", "#include <gtest/gtest.h>\n", "unknown library")

    def test_libtorch_stays_in_its_files(self):
        self.allowed("executor/torch_linear.cpp", "#include <ATen/ops/mm.h>\n")
        self.allowed("executor/ops/rms_norm.cpp", "#include <ATen/cpu/vec/vec.h>\n#include <ATen/Parallel.h>\n")
        self.refused("executor/ops/rms_norm.cpp", "#include <ATen/ATen.h>\n", "torch_*")
        self.refused("executor/interpreter.h", "#include <c10/core/Allocator.h>\n", "torch_*")
        self.refused("tools/run.cpp", "#include <torch/torch.h>\n", "may not include LibTorch")

    def test_effects(self):
        self.refused("planner/search.cpp", "void f() { std::cout << 1; }\n", "std::cout")
        self.refused("models/hub.cpp", '\n\nauto h = std::getenv("HOME");\n', "hub.cpp:3")
        self.refused("data/a.cpp", "auto t = std::chrono::steady_clock::now();\n", "_clock::now")
        self.allowed("data/a.cpp", "// exit(1) and printf(x) are for tools\nint n = std::snprintf(b, 1, f);\n")
        self.allowed("tools/main.cpp", "int main() { std::exit(1); }\n")

    def test_links(self):
        self.assertEqual(rules.check_links(self.rooms, "reports/CMakeLists.txt", "DEPS ftplan::core)"), [])
        self.assertEqual(len(rules.check_links(self.rooms, "reports/CMakeLists.txt", "DEPS ftplan::program)")), 1)
        self.assertEqual(rules.check_links(self.rooms, "core/CMakeLists.txt", "PRIVATE_DEPS ftplan::xxhash)"), [])

    def test_texts(self):
        for text in ("see /" + "home/me/x", "'/" + "root/.cache'", "https://git" + "hub.com/x", "files.python"
                     + "hosted.org", "deb.deb" + "ian.org"):
            self.assertEqual(len(rules.check_texts("docs/a.md", text)), 1, text)
        for text in ("core/home/x", "$HOME/x", "../root/x", "github_actions", "https://arxiv.org/abs/1910.07467"):
            self.assertEqual(rules.check_texts("docs/a.md", text), [], text)


class ThisCheckout(unittest.TestCase):
    rooms = rules.Rooms(TABLE)
    files = project_files()

    def read(self, path):
        return (ROOT / path).read_text(encoding="utf-8", errors="replace")

    def none(self, problems):
        self.assertEqual(problems, [], "\n" + "\n".join(problems))

    def test_includes_and_effects(self):
        sources = [path for path in self.files if path.endswith((".h", ".cpp", ".cu")) and self.rooms.room_of(path)]
        self.assertGreater(len(sources), 100)
        exists = lambda name: (ROOT / name).is_file()
        self.none([problem for path in sources
                   for problem in rules.check_source(self.rooms, path, self.read(path), exists)])

    def test_links(self):
        lists = [path for path in self.files if path.endswith("CMakeLists.txt")]
        self.none([problem for path in lists for problem in rules.check_links(self.rooms, path, self.read(path))])

    def test_texts(self):
        self.none([problem for path in self.files for problem in rules.check_texts(path, self.read(path))])

    def test_every_room_has_its_library(self):
        for room in sorted(ALL - {"tools", "executor"}):
            if any(path.startswith(room + "/") and path.endswith(".cpp") for path in self.files):
                self.assertIn(f"ftplan_add_library({room}", self.read(f"{room}/CMakeLists.txt"))


if __name__ == "__main__":
    unittest.main()
