"""step_probe, one process for many cases."""

import json
import subprocess
from multiprocessing import util

from compare import Mismatch


class Probe:
    def __init__(self, binary):
        self.process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        # Waited for, so that its CPU time is counted.
        util.Finalize(self, self.close, exitpriority=1)

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def run(self, case):
        """The report on a case, given by its file."""
        print(case, file=self.process.stdin, flush=True)
        status = self.process.stdout.readline().strip()
        if status != "0":
            with open(f"{case}.err") as said:
                raise Mismatch(f"exit {status}: {said.read().strip()[-500:]}")
        with open(f"{case}.out") as report:
            return json.load(report)
