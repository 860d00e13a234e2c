"""measured.json: what was measured equals what was predicted, in every category of every place."""

import json

import support
from support import Case, make_model, make_rows

COMMON = ["--global-batch", 4, "--micro-batch", 2, "--steps", 7, "--learning-rate", "1e-2"]
MODES = {
    "full fp32": ["--method", "full"],
    "full fp32, validation, checkpoints": ["--method", "full", "--validation", 0.2, "--eval-every", 3, "--save-every", 2,
                                           "--eval-batch", 3],
    "full fp32, recomputed": ["--method", "full", "--checkpointing", "full", "--loss-chunk", 16],
    "full bf16": ["--method", "full", "--precision", "bf16", "--save-every", 3],
    "full bf16, sgd, checkpoints": ["--method", "full", "--precision", "bf16", "--optimizer", "sgd",
                                    "--momentum", 0.9, "--save-every", 3],
    "lora fp32, sgd without momentum": ["--rank", 4, "--optimizer", "sgd", "--save-every", 3],
    "full bf16, adamw8bit, validation, checkpoints": ["--method", "full", "--precision", "bf16", "--optimizer",
                                                      "adamw8bit", "--validation", 0.2, "--save-every", 3],
    "full fp32, best, newest 2 of 4": ["--method", "full", "--validation", 0.2, "--eval-every", 2, "--save-every", 2,
                                       "--save-total-limit", 2, "--load-best-model-at-end"],
    "lora bf16, best, newest 5 of 3": ["--rank", 4, "--precision", "bf16", "--validation", 0.2, "--save-every", 3,
                                       "--save-total-limit", 5, "--load-best-model-at-end"],
    "full bf16, sgd, best": ["--method", "full", "--precision", "bf16", "--optimizer", "sgd", "--validation", 0.2,
                             "--eval-every", 2, "--save-every", 3, "--load-best-model-at-end"],
    "full fp32, paged-adamw8bit, checkpoints": ["--method", "full", "--optimizer", "paged-adamw8bit", "--save-every", 3],
    "lora fp32, adamw8bit": ["--rank", 64, "--optimizer", "adamw8bit"],
    "lora fp32": ["--rank", 4],
    "lora fp32, dropout, validation, checkpoints": ["--rank", 4, "--dropout", 0.1, "--validation", 0.2,
                                                    "--save-every", 3],
    "lora fp32, isolated": ["--rank", 4, "--packing", "isolated"],
    "lora fp32, concat": ["--rank", 4, "--packing", "concat", "--targets", "q_proj,v_proj",
                           "--rank-pattern", "v_proj=9"],
    "full fp16, checkpoints": ["--method", "full", "--precision", "fp16", "--loss-scale", 1e7, "--save-every", 3],
    "lora fp16, isolated": ["--rank", 4, "--precision", "fp16", "--packing", "isolated", "--accumulation", 2],
    "qlora fp16": ["--method", "qlora", "--precision", "fp16", "--rank", 4],
    "int8-lora": ["--method", "int8-lora", "--rank", 4, "--checkpointing", "full"],
    "int8-lora bf16": ["--method", "int8-lora", "--rank", 4, "--precision", "bf16", "--accumulation", 2],
    "lora bf16": ["--rank", 4, "--precision", "bf16", "--layers-to-transform", 1],
    "lora bf16, isolated, every-2, validation": ["--rank", 4, "--precision", "bf16", "--packing", "isolated",
                                                 "--checkpointing", "every-2", "--validation", 0.2],
    "qlora fp32, validation, checkpoints": ["--method", "qlora", "--validation", 0.2, "--save-every", 3],
    "qlora bf16, recomputed": ["--method", "qlora", "--precision", "bf16", "--checkpointing", "full",
                               "--no-double-quantization"],
    "lora bf16, embedding and head, best": ["--rank", 4, "--precision", "bf16", "--modules-to-save", "embed_tokens,lm_head",
                                            "--ensure-weight-tying", "--validation", 0.2, "--save-every", 3,
                                            "--pad-vocabulary-to", 7, "--load-best-model-at-end"],
    "qlora fp32, norms and head": ["--method", "qlora", "--rank", 4, "--modules-to-save", "norm,lm_head",
                                   "--ensure-weight-tying", "--save-every", 3, "--accumulation", 2],
    "lora bf16, on embedding and head": ["--rank", 4, "--precision", "bf16", "--targets", "q_proj,embed_tokens,lm_head",
                                         "--validation", 0.2, "--save-every", 3, "--dropout", 0.1],
    "full bf16, concat, accumulation": ["--method", "full", "--precision", "bf16", "--packing", "concat",
                                        "--micro-batch", 1, "--accumulation", 4],
}


class Bytes(Case):
    def setUp(self):
        super().setUp()
        make_model(self.folder / "model")
        # Rows of 9 to 60 tokens: four padded lengths.
        make_rows(self.folder / "rows.json")

    def run_mode(self, flags, **options):
        # A flag that is given twice is refused, so a mode's own take the place of the common ones.
        common = [word for i in range(0, len(COMMON), 2) if COMMON[i] not in flags for word in COMMON[i:i + 2]]
        self.plan(*common, *flags, **options)
        self.ftplan("calibrate", "plan.json")
        self.plan(*common, *flags, **options)
        plan = json.loads((self.folder / "plan.json").read_text())
        self.assertEqual(plan["predicted"][0]["uncertainty"], 0, "scratch was measured")
        out, _ = self.ftplan("run", "plan.json", "-o", "run", "--json")
        measured = json.loads((self.folder / "run/measured.json").read_text())
        self.assertEqual(measured, json.loads(out))
        return plan, measured["ranks"]

    def assert_equal_bytes(self, plan, ranks):
        self.assertEqual(len(ranks), 1)
        for place in ("device", "host", "disk"):
            predicted, measured = plan["predicted"][0][place], ranks[0]["measured"][place]
            self.assertEqual(predicted, measured, place)
            self.assertEqual(predicted, ranks[0]["predicted"][place], place)
            self.assertGreater(measured["peak"], 0, place)
            self.assertEqual(sum(value for key, value in measured.items() if key != "peak"), measured["peak"], place)
        self.assertEqual(ranks[0]["outside_arena_bytes"], 0)

    def test_every_mode_uses_what_was_predicted(self):
        for number, (mode, flags) in enumerate(MODES.items()):
            with self.subTest(mode):
                self.folder = self.folder.parent / f"mode-{number}"
                # Matrices that are large enough for 8-bit states.
                wide = {"hidden_size": 64, "intermediate_size": 80} if "8bit" in mode else {}
                make_model(self.folder / "model", tie_word_embeddings=number % 2 == 1, **wide)
                make_rows(self.folder / "rows.json", seed=number)
                self.assert_equal_bytes(*self.run_mode(flags))

    def test_the_disk_holds_what_was_predicted(self):
        # Checkpoint and model together are the most that this run ever has there.
        _, ranks = self.run_mode(["--method", "full"])
        files = {name: len(data) for name, data in support.contents(self.folder / "run").items()}
        at_end = sum(size for name, size in files.items() if name.endswith(".safetensors"))
        self.assertEqual(ranks[0]["measured"]["disk"]["peak"], at_end)


support.main()
