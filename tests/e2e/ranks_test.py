"""Several ranks as processes: the same model as one rank, every byte as predicted, and no end without a name."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy
import support
from support import FTPLAN, Case, contents, lines_of, make_model, make_rows, metrics, read_tensors

COMMON = ["--micro-batch", 2, "--learning-rate", "1e-2", "--validation", 0.1, "--eval-every", 4]
KEPT = ("loss", "learning_rate", "gradient_norm", "target_tokens", "validation_loss")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens_at(worker):
    """Addresses, in the form of /proc/net, at which a process listens."""
    links = [os.readlink(path) for path in pathlib.Path(f"/proc/{worker}/fd").iterdir()]
    sockets = {match[1] for link in links if (match := re.fullmatch(r"socket:\[(\d+)\]", link))}
    entries = [line.split() for kind in ("tcp", "tcp6")
               for line in pathlib.Path(f"/proc/{worker}/net/{kind}").read_text().splitlines()[1:]]
    return {entry[1].split(":")[0] for entry in entries if entry[3] == "0A" and entry[9] in sockets}


class Ranks(Case):
    def setUp(self):
        super().setUp()
        make_model(self.folder / "model")
        make_rows(self.folder / "rows.json")

    def plan_ranks(self, ranks, *flags, zero=1, accumulation=2, steps=12, save_every=3):
        self.plan(*COMMON, "--steps", steps, "--save-every", save_every, "--accumulation", accumulation,
                  "--gpus", f"{ranks}xcpu" if ranks > 1 else "cpu", *(["--zero", zero] if ranks > 1 else []), *flags)

    def assert_measured(self, run, ranks):
        measured = json.loads((self.folder / run / "measured.json").read_text())["ranks"]
        self.assertEqual([rank["rank"] for rank in measured], list(range(ranks)))
        for rank in measured:
            self.assertEqual(rank["predicted"], rank["measured"], f"rank {rank['rank']}")
            self.assertGreater(rank["measured"]["device"]["peak"], 0)
        return measured

    def assert_close(self, run, other, tolerance):
        for mine, theirs in zip(metrics(self.folder / run, *KEPT), metrics(self.folder / other, *KEPT), strict=True):
            for value, expected in zip(mine, theirs, strict=True):
                self.assertEqual(value is None, expected is None, (mine, theirs))
                if value is not None:
                    self.assertLess(abs(value - expected), tolerance * max(1, abs(expected)), (mine, theirs))

    def test_ranks_train_the_model_of_one_with_every_byte_as_predicted(self):
        modes = {"lora": (["--rank", 4, "--dropout", 0.1], 2, 1),
                 "full, three ranks": (["--method", "full", "--load-best-model-at-end"], 3, 1),
                 "full, replicas": (["--method", "full"], 2, 0), "full, gradients": (["--method", "full"], 2, 2),
                 "full, weights": (["--method", "full", "--checkpointing", "full"], 3, 3),
                 "lora, weights": (["--rank", 4, "--method", "qlora", "--load-best-model-at-end"], 2, 3)}
        for mode, (flags, ranks, zero) in modes.items():
            with self.subTest(mode):
                self.plan_ranks(1, *flags, accumulation=2 * ranks)
                self.ftplan("run", "plan.json", "-o", f"one {mode}")
                self.plan_ranks(ranks, *flags, zero=zero)
                out, _ = self.ftplan("run", "plan.json", "-o", f"ranks {mode}")
                self.assertEqual(out.count("every category as predicted"), ranks, out)
                measured = self.assert_measured(f"ranks {mode}", ranks)
                one = json.loads((self.folder / f"one {mode}/measured.json").read_text())["ranks"][0]
                for category in ("weights", "adapters") * (zero == 3) + ("optimizer",) * (zero >= 1):
                    mine, theirs = (rank["measured"]["device"][category] for rank in (measured[0], one))
                    self.assertLess(mine, theirs, category) if theirs else self.assertEqual(mine, 0)
                self.assert_close(f"ranks {mode}", f"one {mode}", 2e-5)
                part = "adapter" if "lora" in mode else "model"
                file = next((self.folder / f"ranks {mode}" / part).glob("*.safetensors")).name
                mine = read_tensors(self.folder / f"ranks {mode}" / part / file)
                theirs = read_tensors(self.folder / f"one {mode}" / part / file)
                self.assertEqual(sorted(mine), sorted(theirs))
                for name, values in mine.items():
                    self.assertLess(float(numpy.abs(values - theirs[name]).max()), 1e-4, name)
                report = self.ftplan("report", f"ranks {mode}")[0]
                for rank in range(ranks):
                    self.assertIn(f"rank {rank}, device", report)

    def test_a_plan_of_ranks_says_what_it_needs(self):
        self.plan_ranks(2, save_every="none")
        plan = json.loads((self.folder / "plan.json").read_text())
        self.assertEqual([rank["rank"] for rank in plan["predicted"]], [0, 1])
        self.assertEqual(plan["machine"]["threads"], max(1, len(os.sched_getaffinity(0)) // 2))
        # Only rank 0 writes the result.
        self.assertGreater(plan["predicted"][0]["disk"]["peak"], plan["predicted"][1]["disk"]["peak"])

    def start_run(self, *flags, output="run", **options):
        return self.start("run", "plan.json", "-o", output, *flags, **options)

    def wait_for_line(self, process, line, output="run"):
        self.wait_for(lambda: lines_of(self.folder / output / "metrics.jsonl") >= line, process, f"line {line}")

    def kept(self, output):
        run = self.folder / output
        parts = [part for part in ("adapter", "model", "checkpoints") if (run / part).exists()]
        return {f"{part}/{name}": data for part in parts for name, data in contents(run / part).items()}

    def assert_goes_on(self, output="run"):
        self.ftplan("run", "plan.json", "-o", output)
        self.assert_same_files(self.kept("whole"), self.kept(output))
        self.assertEqual(metrics(self.folder / "whole", *KEPT), metrics(self.folder / output, *KEPT))

    def test_sharded_weights_go_on_bit_by_bit(self):
        self.plan_ranks(2, "--method", "full", zero=3)
        self.ftplan("run", "plan.json", "-o", "whole")
        process = self.start_run()
        self.wait_for_line(process, 5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, err)
        self.assert_goes_on()

    def test_killed_stopped_and_interrupted_runs_go_on_bit_by_bit(self):
        self.plan_ranks(2, "--method", "full", "--precision", "bf16", steps=60)
        self.ftplan("run", "plan.json", "-o", "whole")
        names = [path.name for path in sorted((self.folder / "whole/checkpoints").iterdir())]
        self.assertEqual(names, ["step-000000000060-00000-of-00002.safetensors",
                                 "step-000000000060-00001-of-00002.safetensors",
                                 "step-000000000060-of-00002.complete"])
        with self.subTest("a killed rank is named"):
            process = self.start_run()
            self.wait_for_line(process, 8)
            for worker in support.ranks_of(process).values():
                self.assertEqual(listens_at(worker), {"0100007F"})  # 127.0.0.1
            os.kill(support.ranks_of(process)[1], signal.SIGKILL)
            self.assert_fails(process, "rank 1: was ended by signal 9")
        with self.subTest("rank 0 is killed"):
            process = self.start_run()
            self.wait_for_line(process, 16)
            os.kill(support.ranks_of(process)[0], signal.SIGKILL)
            self.assert_fails(process, "rank 0: was ended by signal 9")
        with self.subTest("a rank that says nothing is named"):
            process = self.start_run("--step-timeout", 1)
            self.wait_for_line(process, 24)
            os.kill(support.ranks_of(process)[1], signal.SIGSTOP)
            began = time.monotonic()
            self.assert_fails(process, "rank 1: sent nothing for 1 s")
            self.assertLess(time.monotonic() - began, 60)
        with self.subTest("a signal reaches all ranks"):
            process = self.start_run()
            self.wait_for_line(process, 32)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 130, err)
            self.assertIn("the state is saved", err.splitlines()[-1])
        self.assert_goes_on()

    def test_a_run_goes_on_on_another_number_of_ranks(self):
        cuts = [(2, 3, 4), (3, 2, 8), (1, 6, 12)]  # ranks, accumulation, until step
        self.plan_ranks(1, "--method", "full", accumulation=6, save_every=2)
        self.ftplan("run", "plan.json", "-o", "whole")
        for ranks, accumulation, until in cuts:
            self.plan_ranks(ranks, "--method", "full", accumulation=accumulation, save_every=2)
            process = self.start_run()
            if until < 12:
                self.wait_for_line(process, until)
                process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 0 if until == 12 else 130, err)
            parts = {path.name[17:] for path in (self.folder / "run/checkpoints").glob("*.safetensors")}
            self.assertEqual(len(parts), ranks, parts)
        self.assert_close("run", "whole", 2e-5)
        mine, theirs = (read_tensors(self.folder / run / "model/model.safetensors") for run in ("run", "whole"))
        for name, values in mine.items():
            self.assertLess(float(numpy.abs(values - theirs[name]).max()), 1e-4, name)
        self.plan_ranks(2, "--method", "full", "--seed", 5, accumulation=3)
        self.refused("run", "plan.json", "-o", "run", says="belongs to a run of another plan")

    def assert_fails(self, process, says, code=4):
        _, err = process.communicate(timeout=90)
        self.assertEqual(process.returncode, code, err)
        errors = [line for line in err.splitlines() if line.startswith("ftplan: ")]
        self.assertEqual(len(errors), 1, err)
        self.assertIn(says, errors[0])

    def test_what_is_wrong_is_said_once(self):
        self.plan_ranks(2)
        (self.folder / "rows.json").unlink()
        self.refused("run", "plan.json", says="rows.json")
        self.refused("run", "plan.json", "--step-timeout", "soon", says="--step-timeout: got \"soon\"")
        self.refused("run", "plan.json", "--interface", "eth99", says="--interface: got \"eth99\"")
        self.refused("run", "plan.json", binary=FTPLAN.with_name("ftplan-worker"), says="started by ftplan run")

    def start_rank(self, rank, ranks, port, *flags, within=(), **variables):
        environment = {"RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": str(rank),
                       "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} | variables
        return self.start_in(environment, *flags, within=within)

    def start_in(self, environment, *flags, within=()):
        before, self.environment = self.environment, self.environment | environment
        try:
            binary, *words = [*within, FTPLAN]
            return self.start(*words, "run", "plan.json", "-o", "run", *flags, binary=binary)
        finally:
            self.environment = before

    def places(self, launcher):
        """The environments in which a launcher starts ftplan for two ranks of this host."""
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        ranks = [str(rank) for rank in range(2)]
        if launcher == "slurm":
            step = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_JOB_ID": "7",
                    "SLURM_STEP_NODELIST": "localhost", "MASTER_PORT": meeting["MASTER_PORT"]}
            return [step | {"SLURM_PROCID": rank} for rank in ranks]
        if launcher == "mpirun":
            return [meeting | {"OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_SIZE": "2"} for rank in ranks]
        node = {f"PET_{name}": value for name, value in meeting.items()}
        return [node | {"PET_NNODES": "1", "PET_NODE_RANK": "0", "PET_NPROC_PER_NODE": "2"}]

    def test_ranks_that_another_launcher_starts_find_each_other(self):
        self.plan_ranks(2, "--rank", 4)
        self.ftplan("run", "plan.json", "-o", "whole")
        port = free_port()
        ranks = [self.start_rank(rank, 2, port) for rank in range(2)]
        for rank in ranks:
            _, err = rank.communicate(timeout=60)
            self.assertEqual(rank.returncode, 0, err)
        self.assert_same_files(self.kept("whole"), self.kept("run"))
        for launcher in ("slurm", "mpirun", "kubeflow"):
            with self.subTest(launcher):
                shutil.rmtree(self.folder / "run")
                for process in [self.start_in(place) for place in self.places(launcher)]:
                    _, err = process.communicate(timeout=60)
                    self.assertEqual(process.returncode, 0, err)
                self.assert_same_files(self.kept("whole"), self.kept("run"))
        with self.subTest("one does not come"):
            error_file = self.folder / "error.json"
            alone = self.start_rank(0, 2, free_port(), "--join-timeout", 0.5, TORCHELASTIC_ERROR_FILE=str(error_file))
            self.assert_fails(alone, "rank 1: did not join within 0.5 s")
            self.assertIn("rank 1: did not join", json.loads(error_file.read_text())["message"]["message"])
        with self.subTest("another number of ranks"):
            alone = self.start_rank(0, 3, free_port())
            self.assert_fails(alone, "the plan is for 2 ranks, torchrun has started 3", code=2)

    def test_torchrun_starts_ranks_again_when_one_is_killed(self):
        self.plan_ranks(2, "--rank", 4, steps=60)
        self.ftplan("run", "plan.json", "-o", "whole")
        run = self.start("-m", "torch.distributed.run", "--nproc-per-node", 2, "--max-restarts", 1, "--no-python", FTPLAN,
                         "run", "plan.json", "-o", "run", binary=sys.executable)
        self.wait_for_line(run, 10)
        os.kill(self.worker_of(run, 1), signal.SIGKILL)
        _, err = run.communicate(timeout=100)
        self.assertEqual(run.returncode, 0, err)
        self.assertIn("continues after step", err)
        self.assert_same_files(self.kept("whole"), self.kept("run"))

    def worker_of(self, process, rank):
        """Below `process`, at any depth."""
        below = [process.pid]
        for parent in below:
            children = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            below += map(int, children)
        wanted = f"RANK={rank}".encode()
        workers = [child for child in below if os.readlink(f"/proc/{child}/exe").endswith("ftplan-worker")
                   and wanted in pathlib.Path(f"/proc/{child}/environ").read_bytes().split(b"\0")]
        self.assertEqual(len(workers), 1)
        return workers[0]

    def make_nodes(self):
        """Two network namespaces with a link of 200 Mbit/s: the words that start a command in each."""
        missing = [tool for tool in ("ip", "tc") if not shutil.which(tool, path="/usr/sbin:/sbin:/usr/bin:/bin")]
        if os.geteuid() != 0 or missing:
            self.skipTest(f"network namespaces need root, and {missing or 'nothing'} is missing")
        names = [f"ftplan{os.getpid()}{node}" for node in "ab"]
        ends = [f"ft{os.getpid() % 100000}{node}" for node in "ab"]
        commands = [f"ip netns add {name}" for name in names]
        commands.append(f"ip link add {ends[0]} type veth peer name {ends[1]}")
        for node, (name, end) in enumerate(zip(names, ends, strict=True)):
            inside = f"ip netns exec {name}"
            commands += [f"ip link set {end} netns {name}", f"{inside} ip addr add 10.77.0.{node + 1}/24 dev {end}",
                         f"{inside} ip link set {end} up", f"{inside} ip link set lo up",
                         f"{inside} tc qdisc add dev {end} root tbf rate 200mbit burst 256kb latency 50ms"]
        environment = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
        for name in names:
            self.addCleanup(subprocess.run, ["ip", "netns", "del", name], env=environment, capture_output=True, check=False)
        for command in commands:
            done = subprocess.run(command.split(), env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                self.skipTest(f"{command}: {done.stderr.strip()}")
        ip = shutil.which("ip", path=environment["PATH"])
        return [[ip, "netns", "exec", name] for name in names]

    def test_two_nodes_train_over_the_link_between_them(self):
        nodes = self.make_nodes()
        self.plan_ranks(2, "--rank", 4)
        self.ftplan("run", "plan.json", "-o", "whole")
        place = {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "10.77.0.1"}
        ranks = [self.start_rank(rank, 2, 29500, within=node, **place) for rank, node in enumerate(nodes)]
        for rank in ranks:
            _, err = rank.communicate(timeout=60)
            self.assertEqual(rank.returncode, 0, err)
        self.assert_same_files(self.kept("whole"), self.kept("run"))


support.main()
