"""What is compared, by group."""

from peer import FALCON_7B, FALCON_RW, Setting

LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}

F32 = {
    "full": {
        "full": Setting(),
        "tied": Setting(tied=True, layers=2),
        "bias accumulation": Setting(bias=True, accumulation=3, seed=1, threads=2),
        "checkpointing full": Setting(checkpointing="full", scaling=LLAMA3),
        "every-2 accumulation": Setting(checkpointing="every-2", accumulation=2, layers=5, steps=12),
        "linear rope, chunks": Setting(scaling=LINEAR, loss_chunk=32, schedule="linear"),
        "tied accumulation chunks": Setting(tied=True, accumulation=2, loss_chunk=24),
        "one layer, no clipping": Setting(layers=1, clip=0.0, schedule="constant"),
        "two ranks": Setting(ranks=2, zero=1),
        "two ranks accumulation": Setting(ranks=2, zero=1, accumulation=2, steps=12),
    },
    "lora": {
        "lora": Setting(method="lora", learning_rate=2e-2),
        "q v": Setting(method="lora", targets=["q_proj", "v_proj"], learning_rate=5e-2),
        "rslora checkpointing full": Setting(method="lora", rslora=True, checkpointing="full", learning_rate=2e-2,
                                             threads=2),
        "every-2 accumulation": Setting(method="lora", checkpointing="every-2", accumulation=2, layers=5,
                                        learning_rate=2e-2, steps=12),
        "patterns": Setting(method="lora", rank_pattern={"q_proj": 2, "down_proj": 7}, alpha_pattern={"v_proj": 3},
                            learning_rate=2e-2),
        "one layer tied": Setting(method="lora", layers=1, tied=True, learning_rate=3e-2),
        "two ranks": Setting(method="lora", ranks=2, zero=1, learning_rate=2e-2),
    },
    "qlora": {
        "qlora": Setting(method="qlora", learning_rate=2e-2),
        "q v, one f32 scale a block": Setting(method="qlora", double_quantization=False, learning_rate=5e-2,
                                              targets=["q_proj", "v_proj"], threads=2),
        "bias, checkpointing full": Setting(method="qlora", bias=True, checkpointing="full", learning_rate=2e-2),
        "every-2 accumulation tied": Setting(method="qlora", checkpointing="every-2", accumulation=2, layers=5,
                                             tied=True, learning_rate=2e-2, steps=12),
        "two ranks": Setting(method="qlora", ranks=2, zero=1, learning_rate=2e-2),
    },
    "packing": {
        "isolated full": Setting(packing="isolated", seq=128),
        "isolated full accumulation": Setting(packing="isolated", seq=96, accumulation=2, checkpointing="full"),
        "isolated lora": Setting(packing="isolated", seq=128, method="lora", learning_rate=2e-2),
        "concat full": Setting(packing="concat", seq=72),
        "concat lora": Setting(packing="concat", seq=72, method="lora", learning_rate=2e-2, checkpointing="every-2"),
    },
}

# Rows have 9 to 59 tokens: micro-batches lie on both sides of the positions of pre-training.
DYNAMIC = {"scaling": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}, "seq": 96,
           "changes": {"max_position_embeddings": 24}}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
YARN_SCALES = YARN | {"beta_fast": 6.0, "beta_slow": 0.5, "mscale": 1.4, "mscale_all_dim": 0.7, "truncate": False}


def longrope(frequencies, **rope):
    return {"family": "phi3", "seq": 96,
            "scaling": {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.1] * (frequencies // 2),
                        "long_factor": [1.5 + i for i in range(frequencies)]} | rope,
            "changes": {"max_position_embeddings": 96, "original_max_position_embeddings": 24, "sliding_window": None}}


F32["rope"] = {
    "dynamic": Setting(**DYNAMIC),
    "dynamic isolated lora": Setting(**DYNAMIC, method="lora", learning_rate=2e-2, packing="isolated", accumulation=2,
                                     checkpointing="full"),
    "yarn": Setting(scaling=YARN),
    "yarn's scales lora": Setting(scaling=YARN_SCALES, method="lora", learning_rate=2e-2, family="qwen2", layers=2),
    "longrope": Setting(**longrope(8), layers=2, accumulation=2),
    "longrope of a part isolated lora": Setting(**longrope(6, partial_rotary_factor=0.75, attention_factor=1.3),
                                                method="lora", learning_rate=2e-2, packing="isolated"),
}

SGD = {"optimizer": "sgd", "learning_rate": 0.5}
F32["sgd"] = {
    "full, momentum": Setting(**SGD | {"momentum": 0.9, "learning_rate": 0.1}),
    "lora": Setting(**SGD | {"method": "lora", "alpha": 16.0, "weight_decay": 0.01}),
    "two ranks, momentum": Setting(**SGD | {"momentum": 0.5, "learning_rate": 0.2}, ranks=2, zero=1),
}

# Matrices of a layer, but those of keys and values, have 4,096 values or more and 8-bit states. The head ends within a
# block.
BITS8 = {"optimizer": "adamw8bit", "changes": {"vocab_size": 161}}
F32["adamw8bit"] = {
    "full": Setting(**BITS8),
    "tied accumulation": Setting(**BITS8, tied=True, accumulation=2, threads=2, checkpointing="full"),
    "two ranks": Setting(**BITS8, ranks=2, zero=1),
    "paged, two ranks": Setting(**BITS8 | {"optimizer": "paged-adamw8bit"}, ranks=2, zero=1, accumulation=2, steps=12),
    "lora": Setting(**BITS8, method="lora", rank=64, alpha=64.0, targets=["q_proj", "down_proj"], learning_rate=5e-3),
}
STATES = {"states": {"adamw8bit": Setting(**BITS8, steps=3, intermediate=128)}}

# Trained in full beside the adapters: a fast embedding would leave the rest behind.
SAVED = {"method": "lora", "learning_rate": 1e-2, "targets": ["q_proj", "v_proj"]}
F32["modules"] = {
    "embedding and head": Setting(**SAVED, modules=["embed_tokens", "lm_head"]),
    "norms, bias, accumulation": Setting(**SAVED | {"learning_rate": 5e-2}, modules=["norm"], bias=True, accumulation=2,
                                         threads=2, checkpointing="full"),
    "qlora, tied, two ranks": Setting(**SAVED | {"method": "qlora"}, modules=["embed_tokens", "model.norm"], tied=True,
                                      ranks=2, zero=1, layers=2),
}

# Adapters on the embedding and the head.
EDGES = {"method": "lora", "learning_rate": 2e-2, "targets": ["q_proj", "embed_tokens", "lm_head"]}
F32["edges"] = {
    "rslora, accumulation, chunks": Setting(**EDGES, rslora=True, accumulation=2, loss_chunk=24, checkpointing="full",
                                            rank_pattern={"lm_head": 6}, alpha_pattern={"embed_tokens": 5}),
    "gemma2, tied, two ranks": Setting(**EDGES, family="gemma2", tied=True, ranks=2, zero=1, layers=2),
}

# Every family beside Llama: group -> name -> what differs from `Setting()`.
LORA = {"method": "lora", "learning_rate": 2e-2}
FAMILIES = {
    "mistral": {
        "full": {},
        "lora": LORA,
        "no window": {"changes": {"sliding_window": None}, "layers": 2},
        "isolated full": {"packing": "isolated", "seq": 128, "checkpointing": "full"},
        "isolated lora": LORA | {"packing": "isolated", "seq": 96, "accumulation": 2, "checkpointing": "every-2"},
        "tied accumulation": {"tied": True, "accumulation": 2, "threads": 2, "changes": {"sliding_window": 19}},
    },
    "qwen2": {
        "full": {},
        "lora": LORA,
        "tied accumulation": {"tied": True, "accumulation": 2, "threads": 2},
        "windows from layer 1": {"checkpointing": "every-2", "layers": 4, "changes": {
            "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}},
        "isolated lora": LORA | {"packing": "isolated", "seq": 96, "checkpointing": "full"},
    },
    "qwen3": {
        "full": {},
        "lora": LORA,
        "tied accumulation": {"tied": True, "accumulation": 2, "threads": 2},
        "bias, windows, checkpointing full": {"bias": True, "checkpointing": "full", "changes": {
            "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}},
        "isolated lora": LORA | {"packing": "isolated", "seq": 96, "checkpointing": "every-2", "layers": 4,
                                 "targets": ["q_proj", "o_proj"]},
        "two ranks": {"ranks": 2, "zero": 1},
    },
    "gemma2": {
        "full": {},
        "lora": LORA,
        "tied": {"tied": True, "accumulation": 2, "threads": 2, "layers": 4},
        "chunks, no caps": {"loss_chunk": 24, "changes": {"attn_logit_softcapping": None,
                                                          "final_logit_softcapping": None}},
        "checkpointing full": {"checkpointing": "full", "packing": "isolated", "seq": 128},
        "isolated lora": LORA | {"packing": "isolated", "seq": 96, "checkpointing": "every-2", "layers": 4},
        "two ranks": {"ranks": 2, "zero": 1},
    },
    "phi3": {
        "full": {},
        "lora": LORA,
        "qkv alone": LORA | {"targets": ["qkv_proj"], "learning_rate": 5e-2},
        "tied accumulation, no window": {"tied": True, "accumulation": 2, "threads": 2,
                                         "changes": {"sliding_window": None}},
        "checkpointing full": {"checkpointing": "full", "packing": "isolated", "seq": 128},
        "isolated lora": LORA | {"packing": "isolated", "seq": 96, "checkpointing": "every-2", "layers": 4},
        "two ranks": {"ranks": 2, "zero": 1},
    },
    "falcon": {
        "full": {},
        "lora": LORA,
        "qlora": LORA | {"method": "qlora", "checkpointing": "full"},
        "one norm, isolated": {"packing": "isolated", "seq": 128, "checkpointing": "full",
                               "changes": {"num_ln_in_parallel_attn": 1}},
        "two ranks": {"ranks": 2, "zero": 1},
        "7b tied accumulation": {"tied": True, "accumulation": 2, "threads": 2, "changes": FALCON_7B},
        "7b qkv alone": LORA | {"targets": ["query_key_value"], "learning_rate": 5e-2, "changes": FALCON_7B},
        "rw": {"changes": FALCON_RW},
        "rw isolated lora": LORA | {"packing": "isolated", "seq": 96, "checkpointing": "every-2", "layers": 4,
                                    "changes": FALCON_RW},
        "rw, 12 heads": {"accumulation": 2, "changes": FALCON_RW | {"hidden_size": 96, "num_attention_heads": 12}},
    },
}
# Its adapters are few.
FEW = LORA | {"steps": 30}
FAMILIES["mixtral"] = {
    "full": {},
    "lora": FEW,
    "tied accumulation": {"tied": True, "accumulation": 2, "threads": 2, "changes": {"num_local_experts": 5}},
    "checkpointing full, window": {"checkpointing": "full", "packing": "isolated", "seq": 128, "changes": {
        "sliding_window": 8, "num_experts_per_tok": 3}},
    "isolated lora": LORA | {"packing": "isolated", "seq": 96, "checkpointing": "every-2", "layers": 4},
    "qlora": FEW | {"method": "qlora", "checkpointing": "full"},
    "two ranks": {"ranks": 2, "zero": 1},
}
F32 |= {family: {name: Setting(family=family, **of) for name, of in cases.items()}
        for family, cases in FAMILIES.items()}

# Both ways to make 16-bit products: of widened blocks, and by the library with measured scratch.
CHECKPOINTING = {"checkpointing": "full", "accumulation": 2, "native_bf16": True}
HALVES = {group: {"plain": Setting(precision="bf16", **of),
                "checkpointing accumulation": Setting(precision="bf16", **of, **CHECKPOINTING)}
        for group, of in {"bf16-full": {}, "bf16-lora": LORA, "bf16-qlora": LORA | {"method": "qlora"}}.items()}

# With the first of these scales no gradient overflows, with the others many do.
FP16 = {"precision": "fp16", "learning_rate": 2.5e-3, "loss_scale": 1024.0}
HALVES |= {
    "fp16-full": {"plain": Setting(**FP16), "tied, overflow": Setting(**FP16 | {"loss_scale": 2.0**28}, tied=True, steps=36),
                  "checkpointing accumulation": Setting(**FP16, checkpointing="full", accumulation=2)},
    "fp16-lora": {"plain": Setting(**FP16 | LORA),
                  "overflow, accumulation": Setting(**FP16 | LORA | {"loss_scale": 2.0**24}, accumulation=2, steps=36)},
    "fp16-qlora": {"checkpointing": Setting(**FP16 | LORA | {"method": "qlora"}, checkpointing="full")},
}

# Rows of whole blocks: bitsandbytes 0.50 with AVX-512 takes scales of other blocks where a block straddles rows.
BITSANDBYTES = {"bitsandbytes": {
    "double quantization": Setting(method="qlora", intermediate=128, learning_rate=2e-2),
    "one f32 scale a block": Setting(method="qlora", intermediate=128, double_quantization=False, learning_rate=2e-2,
                                     checkpointing="full"),
}}

INT8 = LORA | {"method": "int8-lora", "outliers": 4}
INT8S = {"int8": {
    "f32": Setting(**INT8),
    "f32, bias, no outliers": Setting(**INT8 | {"outliers": 0}, bias=True, threads=2),
    "bf16, checkpointing accumulation": Setting(**INT8 | {"learning_rate": 5e-3}, precision="bf16", checkpointing="full", accumulation=2),
    "fp16": Setting(**INT8, precision="fp16", loss_scale=1024.0),
    "two ranks": Setting(**INT8, ranks=2, zero=1),
}}

HALVES["modules"] = {"checkpointing": Setting(**SAVED | {"learning_rate": 2.5e-3, "steps": 40}, precision="bf16",
                                              modules=["embed_tokens", "lm_head", "norm"], **CHECKPOINTING)}

HALVES["edges"] = {"checkpointing": Setting(**EDGES | {"learning_rate": 1e-2}, precision="bf16", **CHECKPOINTING)}

# Slow enough that rounding is not amplified from step to step.
HALVES |= {family: {"full": Setting(family=family, precision="bf16", learning_rate=2.5e-3),
                  "lora": Setting(family=family, precision="bf16", native_bf16=True, method="lora",
                                  learning_rate=1e-2)}
         for family in FAMILIES}

HALVES["mixtral"]["lora"] = Setting(family="mixtral", precision="bf16", native_bf16=True, **FEW | {"steps": 50})
HALVES["rope"] = {"longrope": Setting(**longrope(8), precision="bf16", learning_rate=2.5e-3)}
HALVES["falcon"]["rw full"] = Setting(family="falcon", precision="bf16", learning_rate=2.5e-3, changes=FALCON_RW)

DROPOUT = {"dropout": {
    "lora": Setting(method="lora", dropout=0.1, micro_batch=2, accumulation=2, learning_rate=2e-2, steps=12),
    "q v": Setting(method="lora", dropout=0.3, micro_batch=2, accumulation=2, learning_rate=2e-2, steps=12,
                   targets=["q_proj", "v_proj"]),
}}
# Other ways to run the same step.
SAME_MASKS = [{"checkpointing": "full"}, {"checkpointing": "every-2"}, {"micro_batch": 4, "accumulation": 1},
              {"micro_batch": 1, "accumulation": 4}]

# By the comparison that must notice them.
MUTATIONS = {
    ("full", "full"): ["adamw epsilon", "adamw beta2", "no weight decay", "decay on norms", "norm epsilon", "rope base",
                       "no clipping", "rotation not undone", "residual gradient lost", "no bias correction",
                       "mean of means", "late warm-up"],
    ("full", "bias accumulation"): ["accumulation overwrites"],
    ("lora", "lora"): ["wrong alpha", "no weight decay"],
    ("qlora", "qlora"): ["wrong alpha"],
    ("edges", "rslora, accumulation, chunks"): ["head's adapter lost", "wrong alpha", "accumulation overwrites"],
    ("edges", "gemma2, tied, two ranks"): ["embedding unscaled", "logit cap missing"],
    ("modules", "embedding and head"): ["embedding stays", "no weight decay", "wrong alpha"],
    ("modules", "norms, bias, accumulation"): ["accumulation overwrites", "decay on norms", "saved norms stay"],
    ("int8", "f32"): ["no threshold", "scales of another linear", "wrong alpha"],
    ("int8", "f32, bias, no outliers"): ["scales of another linear"],
    ("adamw8bit", "full"): ["adamw epsilon", "no weight decay", "adamw beta2"],
    ("sgd", "full, momentum"): ["half the momentum", "no weight decay", "decay on norms", "no clipping"],
    ("packing", "isolated full"): ["documents see each other", "targets cross documents"],
    ("mistral", "full"): ["window off by one", "no window"],
    ("mistral", "lora"): ["window off by one"],
    ("qwen2", "full"): ["biases lost"],
    ("qwen2", "windows from layer 1"): ["no window", "window in every layer"],
    ("qwen3", "full"): ["head norms lost", "head norms swapped"],
    ("gemma2", "full"): ["attention cap missing", "logit cap missing", "norm without one", "embedding unscaled",
                         "scores scaled by head size", "window in every layer", "window off by one"],
    ("falcon", "full"): ["heads not in groups", "parallel norm lost", "norm epsilon", "residual gradient lost"],
    ("falcon", "7b tied accumulation"): ["parts in another order", "norm's weight and bias swapped"],
    ("rope", "dynamic"): ["length ignored", "rope base"],
    ("rope", "yarn"): ["attention factor missing", "yarn without its range"],
    ("rope", "yarn's scales lora"): ["range of whole frequencies", "attention factor missing"],
    ("rope", "longrope"): ["short factors alone", "long factors alone", "attention factor missing"],
    ("rope", "longrope of a part isolated lora"): ["short factors alone", "attention factor missing"],
    ("falcon", "rw"): ["no alibi", "alibi slope", "biases lost", "heads not in groups"],
    ("mixtral", "full"): ["gate and up swapped", "one expert a token", "scores' gradient lost",
                          "residual gradient lost"],
    ("mixtral", "lora"): ["one expert a token", "scores' gradient lost"],
    ("phi3", "full"): ["parts in another order", "gate and up swapped"],
}
