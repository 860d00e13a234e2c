#!/usr/bin/env python3
"""tools/examples/score.py counts what a stand-in for `ftplan generate` answers, and passes its failures on."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCORE = Path(__file__).resolve().parents[2] / "tools/examples/score.py"

STAND_IN = """#!{python}
import json, sys
if "--adapter" in sys.argv:
    sys.stderr.write("ftplan: no such adapter\\n")
    sys.exit(2)
assert sys.argv[1] == "generate", sys.argv
records = json.load(open(sys.argv[sys.argv.index("--prompts") + 1]))
print(json.dumps({{"format_version": 1, "answers": [{{"prompt": "", "text": r["said"]}} for r in records][:{answers}]}}))
"""

RECORDS = [
    {"instruction": "What is a robin?", "input": "", "output": "A robin is a bird.", "said": " A robin is a bird.\n"},
    {"instruction": "Name the next number.", "input": "six", "output": "After six comes seven.", "said": "After six"},
    {"instruction": "What is an oak?", "input": "", "output": "An oak is a tree.", "said": "An oak is a tree. An elm"},
]


class Score(unittest.TestCase):
    def score(self, *flags, answers=3):
        with tempfile.TemporaryDirectory() as folder:
            stand_in = Path(folder, "ftplan")
            stand_in.write_text(STAND_IN.format(python=sys.executable, answers=answers), encoding="utf-8")
            os.chmod(stand_in, 0o755)
            prompts = Path(folder, "prompts.json")
            prompts.write_text(json.dumps(RECORDS), encoding="utf-8")
            command = [sys.executable, SCORE, folder, "--ftplan", stand_in, "--prompts", prompts, *flags]
            return subprocess.run(command, capture_output=True, text=True, check=False)

    def test_only_whole_answers_count(self):
        done = self.score("--json")
        self.assertEqual(json.loads(done.stdout), {"format_version": 1, "prompts": 3, "exact": 1})

    def test_prints_percent_and_examples(self):
        done = self.score("--examples", "2")
        self.assertIn("exact answers: 1 of 3 held-out prompts (33 %)", done.stdout)
        self.assertIn("Name the next number. [six]\n    wrong: After six", done.stdout)
        self.assertNotIn("oak", done.stdout)

    def test_failure_of_the_program_is_passed_on(self):
        done = self.score("--adapter", "missing")
        self.assertEqual(done.returncode, 2)
        self.assertIn("no such adapter", done.stderr)

    def test_missing_answers_are_an_error(self):
        done = self.score(answers=2)
        self.assertEqual(done.returncode, 1)
        self.assertIn("2 answers to 3 prompts", done.stderr)


if __name__ == "__main__":
    unittest.main()
