"""Weight tables and configurations against transformers, on the meta device: names, shapes, counts, ties, rope."""

import json
import pathlib
import random
import sys

from peers import ToolError, equal, folder, run, tool

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "parity"))
from peer import in_files

DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
# What only some families have, as members of ModelConfig.
OF_FAMILY = {
    "llama": lambda c: {"attention_bias": c.attention_bias, "mlp_bias": c.mlp_bias, "window": 0},
    "mistral": lambda c: {"attention_bias": False, "mlp_bias": False, "window": c.sliding_window or 0},
    "qwen2": lambda c: {"attention_bias": True, "mlp_bias": False},
    "qwen3": lambda c: {"attention_bias": c.attention_bias, "mlp_bias": False},
    "phi3": lambda c: {"attention_bias": False, "mlp_bias": False, "window": c.sliding_window or 0},
    "falcon": lambda c: {"attention_bias": c.bias, "mlp_bias": c.bias, "alibi": c.alibi, "window": 0,
                         "intermediate": c.ffn_hidden_size, "norm_epsilon": c.layer_norm_epsilon,
                         "parallel": c.new_decoder_architecture or c.parallel_attn,
                         "kv_heads": c.num_kv_heads if c.new_decoder_architecture or not c.multi_query else 1},
    "mixtral": lambda c: {"attention_bias": False, "mlp_bias": False, "window": c.sliding_window or 0,
                          "experts": c.num_local_experts, "experts_per_token": c.num_experts_per_tok},
    "gemma2": lambda c: {"attention_bias": c.attention_bias, "mlp_bias": False, "query_scale": c.query_pre_attn_scalar,
                         "attention_cap": c.attn_logit_softcapping or 0, "logit_cap": c.final_logit_softcapping or 0},
}
# The same as keys of config.json, at random.
KEYS_OF_FAMILY = {
    "llama": lambda rng: {"attention_bias": rng.random() < 0.5, "mlp_bias": rng.random() < 0.5, "pretraining_tp": 1},
    "mistral": lambda rng: {"sliding_window": rng.choice([None, 7, 64])},
    "qwen2": lambda rng: {"use_sliding_window": rng.random() < 0.5, "sliding_window": rng.choice([7, 64]),
                          "max_window_layers": rng.choice([0, 1, 2, 28])},
    "qwen3": lambda rng: {"attention_bias": rng.random() < 0.5, "use_sliding_window": rng.random() < 0.5,
                          "max_window_layers": rng.choice([0, 1, 28])},
    "mixtral": lambda rng: {"num_local_experts": rng.choice([3, 8]), "num_experts_per_tok": rng.choice([1, 2, 3]),
                            "sliding_window": rng.choice([None, 7]), "output_router_logits": False,
                            "router_aux_loss_coef": 0.02},
    "phi3": lambda rng: {"sliding_window": rng.choice([None, 7, 64]), "resid_pdrop": 0.0},
    "gemma2": lambda rng: {"attention_bias": rng.random() < 0.5, "sliding_window": rng.choice([7, 64]),
                           "query_pre_attn_scalar": rng.choice([1, 144]),
                           "attn_logit_softcapping": rng.choice([None, 50.0]),
                           "final_logit_softcapping": rng.choice([None, 30.0])},
}


def falcon_keys(rng, config):
    """A whole configuration: keys of Falcon depend on each other."""
    heads = config["num_attention_heads"]
    keys = {key: config[key] for key in config if key not in OTHERS_ONLY}
    keys |= {"alibi": rng.random() < 0.5, "bias": rng.random() < 0.5, "activation": "gelu",
             "layer_norm_epsilon": rng.choice([1e-5, 1e-6]), "ffn_hidden_size": rng.choice([None, 24])}
    if rng.random() < 0.4:
        keys |= {"new_decoder_architecture": True, "num_ln_in_parallel_attn": rng.choice([None, 1, 2]),
                 "num_kv_heads": rng.choice([d for d in range(1, heads + 1) if heads % d == 0] + [None])}
    else:
        keys |= {"multi_query": rng.random() < 0.5, "parallel_attn": rng.random() < 0.5}
    if rng.random() < 0.2:
        keys |= {"n_embed": keys["hidden_size"], "hidden_size": 4544}
    return keys


# Keys of other families that mean nothing in a Falcon.
OTHERS_ONLY = ("intermediate_size", "num_key_value_heads", "head_dim", "rms_norm_eps", "hidden_act")
HEAD_DIMS = {"qwen3": 128, "gemma2": 256}  # where the configuration says nothing
CLASSES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3", "phi3": "Phi3",
           "gemma2": "Gemma2", "falcon": "Falcon", "mixtral": "Mixtral"}
ROPE = {"default": "none"} | {kind: kind for kind in ("linear", "dynamic", "llama3", "yarn", "longrope")}


def compare_weights(ours, config, what):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    theirs = {name: list(part.shape) for parameter, tensor in model.named_parameters()
              for name, part in in_files(parameter, tensor)}
    equal(ours["weights"], theirs, f"{what}: weights")
    equal(ours["parameters"], model.num_parameters(), f"{what}: parameters")
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    equal(ours["config"]["tied_embeddings"], tied, f"{what}: tie")


def positions_of(config):
    """Those that the scaling rule is made for."""
    positions, rope = config.max_position_embeddings, config.rope_parameters
    if rope["rope_type"] == "dynamic":
        return int(positions * rope["factor"])
    if rope["rope_type"] == "yarn":
        return max(positions, int(rope["original_max_position_embeddings"] * rope["factor"]))
    return positions


def compare_config(ours, config, what):
    """Every member of ModelConfig that transformers resolves too."""
    config.standardize_rope_params()  # as the model does before it uses them
    rope = config.rope_parameters
    eos = config.eos_token_id
    expected = {
        "family": config.model_type,
        "vocabulary": config.vocab_size,
        "hidden": config.hidden_size,
        "intermediate": getattr(config, "intermediate_size", None),
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "kv_heads": getattr(config, "num_key_value_heads", None),
        "head_size": getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        "positions": positions_of(config),
        "norm_epsilon": getattr(config, "rms_norm_eps", None),
        "tied_embeddings": config.tie_word_embeddings,
        "rope_theta": rope["rope_theta"],
        "rope_scaling": ROPE[rope["rope_type"]],
        "bos_token": -1 if config.bos_token_id is None else config.bos_token_id,
        "eos_token": -1 if eos is None else eos[0] if isinstance(eos, list) else eos,
        "stored": DTYPES[config.dtype or torch.float32],
    }
    if rope["rope_type"] not in ("default", "longrope"):
        expected["rope_factor"] = rope["factor"]
    if rope["rope_type"] == "longrope":
        expected["rope_short_factors"], expected["rope_long_factors"] = rope["short_factor"], rope["long_factor"]
    if rope["rope_type"] in ("yarn", "longrope"):
        expected["rope_original_positions"] = rope["original_max_position_embeddings"]
        _, expected["rope_attention_factor"] = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config)
    if rope["rope_type"] == "llama3":
        expected["rope_low_frequency_factor"] = rope["low_freq_factor"]
        expected["rope_high_frequency_factor"] = rope["high_freq_factor"]
        expected["rope_original_positions"] = rope["original_max_position_embeddings"]
    expected |= OF_FAMILY[config.model_type](config)
    types = getattr(config, "layer_types", None)
    if types:
        c = ours["config"]
        windows = [c["window"] if l >= c["window_first"] and (l - c["window_first"]) % c["window_every"] == 0 else 0
                   for l in range(c["layers"])]
        equal(windows, [config.sliding_window if t == "sliding_attention" else 0 for t in types], f"{what}: windows")
    for key, value in expected.items():
        equal(ours["config"][key], value, f"{what}: {key}")


def random_rope(rng, kinds, head_dim):
    """Keys of config.json in the old form, the new form, or none."""
    keys = {}
    if rng.random() < 0.5:
        keys["rope_theta"] = rng.choice([10000, 10000.0, 500000.0])
    kind = rng.choice([None, *kinds])
    if kind is None:
        if rng.random() < 0.5:
            keys["rope_scaling"] = None
        return keys
    rope = {rng.choice(["type", "rope_type"]): kind}
    if kind not in ("default", "longrope"):
        rope["factor"] = rng.choice([2, 4.0, 8.0])
    if kind == "llama3":
        rope.update(low_freq_factor=1.0, high_freq_factor=4.0)
    if kind == "longrope":
        rope["short_factor"], rope["long_factor"] = ([rng.choice([1.0, 2.5])] * (head_dim // 2) for _ in range(2))
    if kind == "yarn":
        rope |= rng.choice([{}, {"beta_fast": 16, "beta_slow": 2.0}, {"mscale": 0.7, "mscale_all_dim": 1.0},
                            {"truncate": False}])
    if kind in ("yarn", "longrope") and rng.random() < 0.2:
        rope["attention_factor"] = 1.25
    if kind in ("llama3", "yarn", "longrope"):
        if rng.random() < 0.7:
            rope["original_max_position_embeddings"] = 64
        if rng.random() < 0.2:
            keys["original_max_position_embeddings"] = 32
    if rng.random() < 0.3:
        rope["rope_theta"] = 77777.0
    keys[rng.choice(["rope_scaling", "rope_parameters"])] = rope
    return keys


def random_config(rng, family):
    heads = rng.choice([1, 2, 4, 6, 8])
    head_dim = rng.choice([2, 4, 8])
    config = {"model_type": family, "hidden_size": heads * head_dim, "num_attention_heads": heads,
              "intermediate_size": rng.randint(1, 40), "num_hidden_layers": rng.randint(1, 4),
              "vocab_size": rng.randint(10, 90), "max_position_embeddings": 128}
    optional = {
        "architectures": rng.choice([[CLASSES[family] + "ForCausalLM"], None]),
        "num_key_value_heads": rng.choice([d for d in range(1, heads + 1) if heads % d == 0] + [None]),
        "head_dim": rng.choice([2, 6, 16] + [None] * (family in ("llama", "mistral"))),
        "rms_norm_eps": rng.choice([1e-5, 1e-6]),
        "tie_word_embeddings": rng.random() < 0.5,
        "hidden_act": "silu",
        **KEYS_OF_FAMILY.get(family, lambda rng: {})(rng),
        rng.choice(["torch_dtype", "dtype"]): rng.choice(["float32", "bfloat16", "float16", None]),
        "bos_token_id": rng.choice([1, 5, None]),
        "eos_token_id": rng.choice([2, [3, 4], None]),
        "use_cache": False,
    }
    config.update({key: value for key, value in optional.items() if rng.random() < 0.6})
    if family != "llama":  # only there the default divides every number of heads
        config["num_key_value_heads"] = optional["num_key_value_heads"] or heads
    if family == "mixtral":
        config["intermediate_size"] = 256 * rng.randint(1, 3)  # else refused
    wide = None if family == "falcon" else config.get("head_dim") or HEAD_DIMS.get(family)
    kinds = ROPE if family != "phi3" else ["default"] if wide else ["default", "longrope"]
    if family == "mixtral" and not wide:  # which these take for a number
        kinds = [kind for kind in kinds if kind not in ("dynamic", "yarn", "longrope")]
    if (wide or head_dim) == 2:  # transformers divides by the size minus 2
        kinds = [kind for kind in kinds if kind != "dynamic"]
    config.update(random_rope(rng, kinds, wide or head_dim))
    if family in ("phi3", "gemma2"):
        config["pad_token_id"] = 0  # of which it makes an embedding
    return falcon_keys(rng, config) if family == "falcon" else config


def presets_are_the_models_of_transformers():
    for name, ours in tool("presets").items():
        with folder() as path:
            with open(f"{path}/config.json", "w", encoding="utf-8") as file:
                json.dump(ours["file"]["config"], file)
            config = AutoConfig.from_pretrained(path)
        compare_config(ours, config, name)
        compare_weights(ours, config, name)


def random_configs_are_read_as_transformers_reads_them():
    families = list(CLASSES)
    for seed in range(60 * len(families)):
        config = random_config(random.Random(seed), families[seed % len(families)])
        what = f"seed {seed} {config}"
        with folder() as path:
            with open(f"{path}/config.json", "w", encoding="utf-8") as file:
                json.dump(config, file)
            ours = tool("model", path)
            theirs = AutoConfig.from_pretrained(path)
        compare_config(ours, theirs, what)
        compare_weights(ours, theirs, what)


def what_transformers_writes_is_read():
    families = list(CLASSES)
    for seed in range(10 * len(families)):
        with folder() as path:
            with open(f"{path}/config.json", "w", encoding="utf-8") as file:
                json.dump(random_config(random.Random(seed), families[seed % len(families)]), file)
            theirs = AutoConfig.from_pretrained(path)
            theirs.save_pretrained(path)
            compare_config(tool("model", path), theirs, f"saved again, seed {seed}")


def what_transformers_refuses_is_refused():
    base = {"model_type": "llama", "hidden_size": 12, "num_attention_heads": 4, "max_position_embeddings": 128}
    for change in ({"num_attention_heads": 5}, {"head_dim": 7}, {"vocab_size": "x"}, {"attention_bias": 3},
                   {"rope_scaling": {"type": "linear"}}, {"dtype": "torch.float16"}):
        with folder() as path:
            with open(f"{path}/config.json", "w", encoding="utf-8") as file:
                json.dump(base | change, file)
            refused = []
            for read in (lambda: tool("model", path), lambda: AutoConfig.from_pretrained(path)):
                try:
                    read()
                except Exception as error:  # noqa: BLE001  each library has its own
                    refused.append(isinstance(error, ToolError))
            equal(refused, [True, False], f"refused by ours, by theirs: {change}")


run([presets_are_the_models_of_transformers, random_configs_are_read_as_transformers_reads_them,
     what_transformers_writes_is_read, what_transformers_refuses_is_refused])
