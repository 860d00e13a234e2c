"""Help of every command, and what a mistyped word is answered with."""

import re

import support
from support import Case

COMMANDS = ["estimate", "plan", "run", "eval", "generate", "calibrate", "data", "simulate", "explain", "merge", "convert",
            "models", "hardware", "doctor"]


class Help(Case):
    def test_the_program_lists_its_commands(self):
        out, err = self.ftplan("--help")
        listed = re.findall(r"^  ([a-z]+) {2,}\S", out[out.index("Subcommands:"):], re.MULTILINE)
        self.assertLessEqual(set(COMMANDS), set(listed))
        self.assertEqual(err, "")
        for command in listed:
            with self.subTest(command):
                text, err = self.ftplan(command, "--help")
                self.assertIn(f"Usage: ftplan {command} ", text)
                self.assertIn(f"Example: ftplan {command}", text)
                self.assertEqual(err, "")

    def test_every_flag_is_explained(self):
        for command in COMMANDS:
            text, _ = self.ftplan(command, "--help")
            flags = re.findall(r"^  (-\S+)(.*)$\n(.*)$", text, re.MULTILINE)
            self.assertIn("-h,--help", [flag for flag, _, _ in flags])
            for flag, rest, following in flags:
                # Behind the flag, or on the next line where the flag is long.
                explained = re.search(r" {2,}[A-Z]", rest) or re.match(r" {20,}[A-Z]", following) or \
                    re.match(r"^ [A-Z]", rest)
                self.assertTrue(explained, f"{command} {flag}")

    def test_what_only_an_evaluation_uses_is_no_flag_of_generate(self):
        for flag in ("--packing", "--eval-batch", "--train-on-prompt", "--data"):
            self.assertIn(flag, self.ftplan("eval", "--help")[0])
            self.assertNotIn(flag, self.ftplan("generate", "--help")[0])

    def test_the_version_is_a_line(self):
        out, _ = self.ftplan("--version")
        self.assertRegex(out, r"^ftplan \d+\.\d+\.\d+\S*\n$")

    def test_a_mistyped_flag_or_command_gets_the_nearest(self):
        for words, nearest in ((["plan", "--modle", "x"], "--model"), (["plan", "--precison=fp32"], "--precision"),
                               (["run", "plan.json", "--ouput", "x"], "--output"), (["eval", "--adaptor", "x"], "--adapter"),
                               (["generate", "--promt", "x"], "--prompt"), (["merge", "--outptu", "x"], "--output"),
                               (["data", "--packng", "none"], "--packing"), (["calibrate", "--quite"], "--quiet"),
                               (["plann"], "plan"), (["runn"], "run"), (["--versoin"], "--version")):
            with self.subTest(words=words):
                self.refused(*words, says=[words[1].split("=")[0] if len(words) > 1 and words[0] != "run" else "",
                                           f"did you mean {nearest}?"])

    def test_a_mistyped_value_is_answered_with_what_there_is(self):
        for flag, value, says in (("--method", "lorra", "full"), ("--precision", "fp23", "fp32"),
                                  ("--packing", "isolate", "isolated"), ("--rank", "0", "expected"),
                                  ("--rank", "many", "expected"), ("--schedule", "cosin", "cosine"),
                                  ("--checkpointing", "every", "every-k"), ("--gpus", "A100", "A100-40GB"),
                                  ("--targets", "qproj", "q_proj"), ("--model", "llama2-7", "llama2-7b")):
            with self.subTest(flag):
                model = [] if flag == "--model" else ["--model", "llama2-7b"]
                self.refused("plan", *model, flag, value, says=[flag if flag != "--model" else "", value, says])

    def test_what_is_missing_is_named(self):
        self.refused("run", says="plan")
        self.refused("plan", says="--model")
        self.refused("eval", "--model", "llama2-7b", says="--data")
        self.refused("generate", "--model", "llama2-7b", says="--prompt")
        self.refused("merge", says="--model")
        self.refused("data", says="--model")
        self.ftplan(code=2)


support.main()
