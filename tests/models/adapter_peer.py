"""Adapters and merging against PEFT and transformers, on a tiny random Llama."""

import json
import os
import random
from pathlib import Path

from peers import ToolError, check, equal, folder, run, tool

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
IDS = torch.arange(24).reshape(2, 12)


def save_base(path, dtype=torch.float32, shard="5GB", **changes):
    torch.manual_seed(0)
    keys = {"hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 32}
    LlamaForCausalLM(LlamaConfig(**(keys | changes))).to(dtype).save_pretrained(path, max_shard_size=shard)


def make_adapter(base, path, dtype=torch.float32, save_embedding_layers="auto", **options):
    """An adapter that does something: PEFT starts B at zero."""
    config = LoraConfig(task_type="CAUSAL_LM", **({"r": 6, "lora_alpha": 9, "target_modules": LINEARS} | options))
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            parameter.data = (torch.randn(parameter.shape, generator=generator) * 0.2).to(dtype)
    model.save_pretrained(path, save_embedding_layers=save_embedding_layers)


def adapters_of_peft_are_read_and_written_again():
    cases = [{}, {"target_modules": ["q_proj", "v_proj"], "r": 1}, {"target_modules": "all-linear"},
             {"use_rslora": True, "lora_dropout": 0.1}, {"lora_alpha": 12.5}, {"init_lora_weights": "gaussian"},
             {"target_modules": ["model.layers.1.mlp.up_proj", "self_attn.o_proj"]},
             {"rank_pattern": {"q_proj": 2, "mlp.up_proj": 9}, "alpha_pattern": {"layers.1.self_attn.q_proj": 3},
              "use_rslora": True},
             {"target_modules": r".*\.(?:q|up)_proj", "rank_pattern": {r"\d\.mlp\..*": 2}, "exclude_modules": r".*\.1\..*"},
             {"target_modules": ["v_proj", "lm_head"], "layers_to_transform": 2, "layers_pattern": "layers",
              "save_embedding_layers": False},
             {"target_modules": "all-linear", "exclude_modules": ["k_proj", "layers.0.mlp.up_proj"]},
             {"target_modules": ["embed_tokens", "lm_head", "q_proj"], "rank_pattern": {"embed_tokens": 3},
              "save_embedding_layers": False},
             {"modules_to_save": ["lm_head", "embed_tokens"]}, {"modules_to_save": ["norm"], "target_modules": ["q_proj"]},
             {"modules_to_save": ["model.norm", "input_layernorm"]},
             {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
             {"modules_to_save": ["lm_head", "norm"], "ensure_weight_tying": True}]
    for options in cases:
        for dtype in NAMES:
            with folder() as path:
                save_base(f"{path}/base", tie_word_embeddings=options.get("ensure_weight_tying", False))
                make_adapter(f"{path}/base", f"{path}/theirs", dtype, **options)
                answer = tool("adapter", f"{path}/base", f"{path}/theirs", f"{path}/ours", NAMES[dtype])
                theirs = load_file(f"{path}/theirs/adapter_model.safetensors")
                what = f"{options} {dtype}"
                equal(answer["modules"], sum(".lora_A." in name or ".lora_embedding_A" in name for name in theirs), f"{what}: modules")
                # The same names, types, values and metadata in the same order: the same bytes.
                same = [Path(f"{path}/{who}/adapter_model.safetensors").read_bytes() for who in ("ours", "theirs")]
                check(same[0] == same[1], f"{what}: adapter_model.safetensors differs")
                size = sum(os.path.getsize(f"{path}/ours/{name}") for name in os.listdir(f"{path}/ours"))
                equal(answer["predicted"], size, f"{what}: predicted bytes on disk")
                compare_loaded(path, set(answer["scalings"]), what)


HEADS = ["", ".*", "model.", r"model\.", r"(?:model\.)?", "(?!.*mlp).*", r".*layers\."]
LAYERS = ["", ".*", r"layers\.[02]\.", r"layers\.\d+\.", "[[a-z.]*[^1].", r".{,7}\d\."]
BLOCKS = ["", ".*", r"(self_attn|mlp)\.", r"mlp\.", r"\w{4,9}."]
NAMES_OF = ["q_proj", ".*_proj", "[kqv]_proj", "(?:gate|up|down)_proj", r"\w+", ".+[^v]_proj", "lm_head|.*o_proj"]
ENDS = ["q_proj", "mlp.up_proj", "layers.1.self_attn.v_proj", "model.layers.0.mlp.down_proj", "proj", "lm_head", "self_attn"]


def random_options(draw):
    """Options of LoraConfig that say which modules are adapted, and how."""
    def pattern():
        return "".join(draw.choice(part) for part in (HEADS, LAYERS, BLOCKS, NAMES_OF))

    def names():
        return draw.sample(ENDS, draw.randint(1, 3))

    options = {"target_modules": draw.choice([pattern, names])()}
    if draw.random() < 0.4:
        options["exclude_modules"] = draw.choice([pattern, names])()
    if isinstance(options["target_modules"], list) and draw.random() < 0.5:
        options["layers_to_transform"] = draw.choice([0, 2, [1], [0, 2]])
        options["layers_pattern"] = draw.choice([None, "layers", ["h"], ["h", "layers"]])
    for key in ("rank_pattern", "alpha_pattern"):
        if draw.random() < 0.5:
            options[key] = {draw.choice([pattern(), *names()]): draw.randint(1, 9) for _ in range(2)}
    return options


def modules_are_chosen_as_peft_chooses_them():
    """On random options; PEFT is asked about each linear, as it refuses others that a pattern may fit."""
    draw = random.Random(7)
    configs = [LoraConfig(task_type="CAUSAL_LM", r=6, lora_alpha=4, **random_options(draw)) for _ in range(400)]
    with folder() as path:
        save_base(f"{path}/base")
        model = AutoModelForCausalLM.from_pretrained(f"{path}/base")
        keys = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
        written = [{key: value for key, value in config.to_dict().items() if not isinstance(value, set)}
                   | {"target_modules": listed(config.target_modules), "exclude_modules": listed(config.exclude_modules)}
                   for config in configs]
        Path(f"{path}/configs.json").write_text(json.dumps(written), encoding="utf-8")
        answers = tool("adapted", f"{path}/base", f"{path}/configs.json")
    chosen = 0
    for config, answer in zip(configs, answers, strict=True):
        theirs = {}
        for key in keys:
            if check_target_module_exists(config, key):
                rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern, key), config.r)
                alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern, key), config.lora_alpha)
                theirs[f"base_model.model.{key}.lora_A.weight"] = [rank, alpha]
        if not theirs:
            check("names no linear of this model" in answer, f"{config}: {answer}")
            continue
        # The embedding is no linear, but can be adapted.
        ours = {name: values for name, values in answer.items() if "embed_tokens" not in name}
        equal(ours, theirs, f"{config}")
        chosen += 1
    check(chosen > 150, f"only {chosen} options name anything")
    print(f"    {chosen} of {len(configs)} name something")


def listed(names):
    return sorted(names) if isinstance(names, set) else names


def compare_loaded(path, scalings, what):
    """PEFT makes the same model of our folder as of its own."""
    outputs = []
    for who in ("theirs", "ours"):
        base = AutoModelForCausalLM.from_pretrained(f"{path}/base")
        model = PeftModel.from_pretrained(base, f"{path}/{who}").eval()
        theirs = {module.scaling["default"] for module in model.modules() if hasattr(module, "lora_A")}
        equal(theirs, scalings, f"{what}: scalings of {who}")
        outputs.append(model(IDS).logits)
    check(torch.equal(*outputs), f"{what}: logits differ")


def ulp(values, dtype):
    """The step between neighbours of `dtype` at each value."""
    step = torch.finfo(dtype)
    return torch.clamp(2.0 ** torch.floor(torch.log2(values.abs().clamp(min=step.tiny))), min=step.tiny) * step.eps


def merged_weights(path, adapter_dtype, **options):
    """The weights (by the book in double, of PEFT, ours), and what the adapter adds to them."""
    make_adapter(f"{path}/base", f"{path}/adapter", adapter_dtype, **options)
    answer = tool("merge", f"{path}/base", f"{path}/adapter", f"{path}/ours")
    base = AutoModelForCausalLM.from_pretrained(f"{path}/base")
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    model = PeftModel.from_pretrained(base, f"{path}/adapter")
    exact, deltas = {}, {}
    for name, module in model.base_model.model.named_modules():
        if hasattr(module, "lora_A") and "default" in module.lora_A:
            delta = module.lora_B["default"].weight.double() @ module.lora_A["default"].weight.double()
            deltas[f"{name}.weight"] = module.scaling["default"] * delta
            exact[f"{name}.weight"] = before[f"{name}.weight"].double() + deltas[f"{name}.weight"]
        if hasattr(module, "lora_embedding_A") and "default" in module.lora_embedding_A:
            delta = (module.lora_embedding_B["default"].double() @ module.lora_embedding_A["default"].double()).T
            deltas[f"{name}.weight"] = module.scaling["default"] * delta
            exact[f"{name}.weight"] = before[f"{name}.weight"].double() + deltas[f"{name}.weight"]
    replaced = [name for name, module in model.base_model.model.named_modules() if hasattr(module, "modules_to_save")]
    theirs = model.merge_and_unload().state_dict()
    ours = AutoModelForCausalLM.from_pretrained(f"{path}/ours")
    # A tied pair is one tensor of the base.
    one = base.config.tie_word_embeddings and {"lm_head", "model.embed_tokens"} <= set(replaced)
    equal(answer["merged"], len(exact) + len(replaced) - one, "merged tensors")
    size = sum(os.path.getsize(file) for file in Path(f"{path}/ours").rglob("*") if file.is_file())
    equal(answer["written"], size, "predicted bytes on disk")
    return exact, theirs, ours, deltas


def merging_equals_peft_in_f32():
    worst = 0.0
    for changes in ({}, {"tie_word_embeddings": True, "attention_bias": True}, {"head_dim": 16}):
        edges = {"target_modules": ["embed_tokens", "lm_head"]}
        for options in ({}, {"target_modules": ["v_proj"], "use_rslora": True}, *[edges] * ("head_dim" in changes),
                        {"modules_to_save": ["embed_tokens", "lm_head", "norm"], "ensure_weight_tying": True}):
            with folder() as path:
                save_base(f"{path}/base", shard="12KB" if options else "5GB", **changes)
                exact, theirs, ours, _ = merged_weights(path, torch.float32, **options)
                for name, tensor in ours.state_dict().items():
                    if name not in exact:
                        check(torch.equal(tensor, theirs[name]), f"{changes} {options} {name}")
                    else:
                        worst = max(worst, (tensor - theirs[name]).abs().max().item())
                check(worst <= 1e-6, f"{changes} {options}: differs from PEFT by {worst}")
                adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(f"{path}/base"),
                                                    f"{path}/adapter").eval()
                drift = (ours.eval()(IDS).logits - adapted(IDS).logits).abs().max().item()
                check(drift < 1e-5, f"{changes} {options}: logits of the merged model differ by {drift}")
    print(f"    largest difference to PEFT {worst:.1e}")


def merging_rounds_once_in_16_bit():
    for dtype in (torch.bfloat16, torch.float16):
        for adapter_dtype in (torch.float32, dtype):
            with folder() as path:
                save_base(f"{path}/base", dtype)
                exact, theirs, ours, deltas = merged_weights(path, adapter_dtype)
                for name, tensor in ours.state_dict().items():
                    equal(tensor.dtype, dtype, name)
                    if name not in exact:
                        check(torch.equal(tensor, theirs[name]), name)
                        continue
                    step = ulp(exact[name], dtype)
                    error = (tensor.double() - exact[name]).abs()
                    # Half a step, and what summing in f32 may add to it.
                    check((error <= 0.5 * step + 1e-6).all(), f"{name}: not the nearest {dtype}")
                    # PEFT rounds the product before it adds and rounds again: half a step of each more.
                    allowed = step + 0.5 * ulp(deltas[name], dtype) + 1e-6
                    apart = (tensor.double() - theirs[name].double()).abs()
                    check((apart <= allowed).all(), f"{name}: differs from PEFT by {(apart / step).max()} steps")


def options_that_change_an_adapter_are_refused():
    cases = {"use_dora": {"use_dora": True}, "bias": {"bias": "all"}, "modules_to_save": {"modules_to_save": ["v_proj"], "target_modules": ["q_proj"]},
             "lora_bias": {"lora_bias": True},
             "trainable_token_indices": {"trainable_token_indices": [1, 2]}}
    with folder() as path:
        save_base(f"{path}/base", attention_bias=True, mlp_bias=True)
        for key, options in cases.items():
            make_adapter(f"{path}/base", f"{path}/{key}", **options)
            try:
                tool("adapter", f"{path}/base", f"{path}/{key}", f"{path}/out", "F32")
                check(False, f"{key}: was accepted")
            except ToolError as error:
                check(f"adapter_config.json#/{key}: " in str(error), f"{key}: {error}")


def an_adapter_of_another_model_is_refused():
    with folder() as path:
        save_base(f"{path}/base")
        save_base(f"{path}/other", hidden_size=64)
        make_adapter(f"{path}/other", f"{path}/adapter")
        try:
            tool("merge", f"{path}/base", f"{path}/adapter", f"{path}/out")
            check(False, "was accepted")
        except ToolError as error:
            check("was made for another model" in str(error) and "[6, 64], this model needs [6, 32]" in str(error), error)
        check(not os.path.exists(f"{path}/out"), "something was written")


def configurations_of_peft_have_no_unknown_option():
    """Every option of this PEFT is off by default, so its adapters are read; those it has on are known by name."""
    with folder() as path:
        save_base(f"{path}/base")
        make_adapter(f"{path}/base", f"{path}/adapter")
        written = json.loads(Path(f"{path}/adapter/adapter_config.json").read_text(encoding="utf-8"))
        for key, value in written.items():
            if value in (None, False, {}, [], 0, ""):
                continue
            single = {"peft_type": "LORA", "r": 6, "lora_alpha": 9, "target_modules": LINEARS, key: value}
            Path(f"{path}/adapter/adapter_config.json").write_text(json.dumps(single), encoding="utf-8")
            tool("adapter", f"{path}/base", f"{path}/adapter", f"{path}/out", "F32")


run([adapters_of_peft_are_read_and_written_again, modules_are_chosen_as_peft_chooses_them, merging_equals_peft_in_f32, merging_rounds_once_in_16_bit,
     options_that_change_an_adapter_are_refused, an_adapter_of_another_model_is_refused,
     configurations_of_peft_have_no_unknown_option])
