"""Every command of docs/guide does what a reader expects of it: it works as it stands, page after page."""

import re
import shlex
import shutil

import support
from support import Case

GUIDE = support.ROOT / "docs/guide"


def commands_of(page):
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


class Guide(Case):
    def test_every_command_works_as_it_stands(self):
        shutil.copytree(support.ROOT / "examples", self.folder / "examples")
        pages = re.findall(r"\]\(([\w-]+\.md)\)", (GUIDE / "README.md").read_text())
        self.assertEqual(sorted(pages + ["README.md"]), sorted(page.name for page in GUIDE.iterdir()))
        for page in pages:
            commands = commands_of(GUIDE / page)
            self.assertTrue(commands, page)
            for command in commands:
                with self.subTest(page=page, command=command):
                    program, *words = shlex.split(command)
                    self.assertEqual(program, "ftplan")
                    self.ftplan(*words)
        for made in ("out/adapter/adapter_model.safetensors", "merged/model.safetensors", "report.html", "layout.svg",
                     "trace.json"):
            self.assertTrue((self.folder / made).exists(), made)


support.main()
