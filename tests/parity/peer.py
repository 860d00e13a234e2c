"""Tiny random models, learnable data and a plain training loop of Hugging Face transformers and PEFT."""

import json
import math
import os
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
warnings.filterwarnings("ignore")
import bitsandbytes.optim
import torch
import torch.nn.functional as functional
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.mixtral.modeling_mixtral import MixtralTopKRouter

# By family, what its tiny models have beside what all have. Windows are shorter than most rows.
FAMILIES = {
    "llama": {},
    "mistral": {"sliding_window": 8},
    "qwen2": {},
    "qwen3": {"head_dim": 24},
    "phi3": {"sliding_window": 8, "pad_token_id": 0},
    # Caps so low that they matter, and a scale that is not that of the head.
    "gemma2": {"sliding_window": 8, "pad_token_id": 0, "head_dim": 24, "query_pre_attn_scalar": 10,
               "attn_logit_softcapping": 1.5, "final_logit_softcapping": 4.0},
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "mixtral": {"num_local_experts": 4, "sliding_window": None},
}
# The other two layouts of Falcon.
FALCON_7B = {"new_decoder_architecture": False, "multi_query": True}
FALCON_RW = {"new_decoder_architecture": False, "multi_query": False, "parallel_attn": False, "alibi": True,
             "bias": True, "num_kv_heads": None}
# Only this implementation of transformers knows soft caps. With alibi Falcon's eager one adds the biases twice, once
# with the mask and once with the scores; its sdpa, the default here, adds them once.
ATTENTION = {"gemma2": "eager"}
# transformers makes their masks without looking at positions: each document has a row of its own.
BLIND_TO_DOCUMENTS = {"falcon"}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

FUSED_TARGETS = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
FALCON_TARGETS = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]
TARGETS_OF = {"phi3": FUSED_TARGETS, "falcon": FALCON_TARGETS, "mixtral": TARGETS[:4]}


@dataclass
class Setting:
    """One comparison. Everything that both trainers must agree on."""

    family: str = "llama"
    changes: dict = field(default_factory=dict)
    method: str = "full"
    precision: str = "fp32"
    checkpointing: str = "none"
    micro_batch: int = 2
    accumulation: int = 1
    packing: str = "none"
    seq: int = 256
    ranks: int = 1
    zero: int = 0
    layers: int = 3
    intermediate: int = 112
    tied: bool = False
    bias: bool = False
    scaling: dict | None = None
    targets: list | None = None
    rank: int = 4
    alpha: float = 8.0
    rslora: bool = False
    modules: list | None = None
    rank_pattern: dict = field(default_factory=dict)
    alpha_pattern: dict = field(default_factory=dict)
    double_quantization: bool = True
    dropout: float = 0.0
    learning_rate: float = 5e-3
    weight_decay: float = 0.1
    optimizer: str = "adamw"
    momentum: float = 0.0
    warmup_steps: int = 2
    schedule: str = "cosine"
    clip: float = 1.0
    loss_chunk: int = 512
    loss_scale: float | None = None
    steps: int = 20
    threads: int = 1
    native_bf16: bool = False
    outliers: int = 0
    seed: int = 0

    def __post_init__(self):
        if self.targets is None:
            self.targets = list(TARGETS_OF.get(self.family, TARGETS))


def config_of(s):
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    if s.scaling:
        rope = dict(s.scaling)
    keys = {"hidden_size": 64, "intermediate_size": s.intermediate, "num_hidden_layers": s.layers,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 160, "max_position_embeddings": 512,
            "tie_word_embeddings": s.tied, "rope_parameters": rope, "initializer_range": 0.08, "rms_norm_eps": 1e-5,
            "bos_token_id": 1, "eos_token_id": 2}
    if s.bias:
        keys["attention_bias"] = True
    if s.family == "falcon":
        keys["ffn_hidden_size"] = s.intermediate
    return AutoConfig.for_model(s.family, attn_implementation=ATTENTION.get(s.family, "sdpa"),
                                **(keys | FAMILIES[s.family] | s.changes))


def rows_of(s):
    """Cycles through one of a few motifs, in rows of several lengths: learnable within a few steps."""
    generator = torch.Generator().manual_seed(1000 + s.seed)
    motifs = torch.randint(3, 160, (3, 7), generator=generator).tolist()
    rows = []
    for _ in range(64):
        length = int(torch.randint(9, 60, (1,), generator=generator))
        motif = motifs[int(torch.randint(0, 3, (1,), generator=generator))]
        start = int(torch.randint(0, 7, (1,), generator=generator))
        ids = [motif[(start + i) % 7] for i in range(length)]
        labels = [-100 if i < length // 4 else token for i, token in enumerate(ids)]
        rows.append((ids, labels))
    return rows


def is_norm(name):
    return "norm" in name or ".ln_" in name


def feeds_linears(s, name):
    """Whether a parameter is that of a norm in front of linears."""
    of_heads = "q_norm" in name or "k_norm" in name
    return is_norm(name) and not of_heads and not (s.family == "gemma2" and "post_" in name)


def make_model(s, folder):
    torch.manual_seed(s.seed)
    model = AutoModelForCausalLM.from_config(config_of(s)).float()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    for name, parameter in model.named_parameters():
        if is_norm(name):
            with torch.no_grad():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    # Channels of the linears' inputs that pass the threshold of LLM.int8.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if s.outliers and feeds_linears(s, name):
                one = 1 if s.family == "gemma2" else 0
                channels = parameter[::len(parameter) // s.outliers]
                channels.copy_(8 * (channels + one) - one)
    # Halves of these are exact in bf16, so that both precisions start from one model.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16().float())
    model.save_pretrained(folder)
    return model


def ties_modules(s):
    return s.tied and s.modules is not None


def add_adapter(s, model, folder, **options):
    config = LoraConfig(r=s.rank, lora_alpha=s.alpha, lora_dropout=s.dropout, target_modules=s.targets,
                        use_rslora=s.rslora, rank_pattern=s.rank_pattern, alpha_pattern=s.alpha_pattern,
                        modules_to_save=s.modules, ensure_weight_tying=ties_modules(s), task_type="CAUSAL_LM", **options)
    adapted = get_peft_model(model, config)
    torch.manual_seed(s.seed + 1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name or "lora_embedding_A" in name:
                parameter.normal_(std=0.05)
            # Not those of the base, and exact in bf16.
            if "modules_to_save" in name:
                parameter.add_(torch.randn_like(parameter) * 0.02)
                parameter.copy_(parameter.bfloat16().float())
    adapted.save_pretrained(folder)
    return adapted


def learning_rate(s, step):
    if step < s.warmup_steps:
        return s.learning_rate * step / max(1, s.warmup_steps)
    progress = (step - s.warmup_steps) / max(1, s.steps - s.warmup_steps)
    if s.schedule == "constant":
        return s.learning_rate
    if s.schedule == "linear":
        return s.learning_rate * max(0.0, 1 - progress)
    return s.learning_rate * max(0.0, 0.5 * (1 + math.cos(math.pi * progress)))


DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocasts(s, precision):
    """Whether trained weights are f32 there, as our masters are. PEFT alone would train those of `modules` in 16 bits."""
    return precision in DTYPES and (s.method == "full" or s.modules is not None)


def load_16bit(s, folder, adapter):
    """PEFT's default for a 16-bit base: frozen weights in its type, adapters in f32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[s.precision],
                                                 attn_implementation=ATTENTION.get(s.family, "sdpa"))
    return PeftModel.from_pretrained(model, adapter, is_trainable=True)


def micro_batch_of(family, rows, length):
    """Rows of documents, padded on the right. No target lies in another document than its position.

    There is no mask: transformers tells documents apart by positions that begin again, and makes windows itself."""
    ids, labels, positions = [], [], []
    if family in BLIND_TO_DOCUMENTS:
        rows = [[document] for documents in rows for document in documents]
    for documents in rows:
        lengths = [len(document[0]) for document in documents]
        fill = length - sum(lengths)
        ids.append([i for document in documents for i in document[0]] + [0] * fill)
        labels.append([label for document in documents for label in [-100] + document[1][1:]] + [-100] * fill)
        positions.append([i for n in lengths for i in range(n)] + [0] * fill)
    return tuple(torch.tensor(values) for values in (ids, labels, positions))


def batches_of(s, rows):
    """The micro-batches of each step, in file order. A row is a list of documents (ids, labels)."""
    per_step = s.micro_batch * s.accumulation * s.ranks
    per_epoch = -(-len(rows) // per_step)
    for i in range(s.steps):
        chunk = rows[i % per_epoch * per_step:][:per_step]
        # Few lengths: for each torch compiles 16-bit products anew, which takes longer than they do.
        length = -(-max(sum(len(document[0]) for document in row) for row in chunk) // 32) * 32
        parts = [chunk[j:j + s.micro_batch] for j in range(0, len(chunk), s.micro_batch)]
        yield [micro_batch_of(s.family, part, length) for part in parts]


def in_files(name, values):
    """A tensor of a model as (name, values) of its files: transformers stacks the experts of Mixtral in memory."""
    before, found, stacked = name.partition(".mlp.experts.")
    if not found:
        return [(name.replace(".mlp.gate.weight", ".block_sparse_moe.gate.weight"), values)]
    matrices = ["w1", "w3"] if stacked == "gate_up_proj" else ["w2"]
    return [(f"{before}.block_sparse_moe.experts.{i}.{matrix}.weight", part)
            for i, expert in enumerate(values) for matrix, part in zip(matrices, expert.chunk(len(matrices)))]


def name_in_files(name):
    """Of a trained parameter: PEFT's name of a matrix in adapter files, and the model's own of a weight."""
    if ".modules_to_save." in name:
        return name.removeprefix("base_model.model.").replace(".modules_to_save.default.", ".")
    return name.replace(".default.", ".").removesuffix(".default")


def make_optimizer(s, model, groups):
    """The learning rate is set before each step."""
    if s.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=1.0, momentum=s.momentum)
    if s.optimizer in ("adamw8bit", "paged-adamw8bit"):
        # As HF Trainer has it: the embedding keeps f32 states. On CPUs bitsandbytes pages nothing.
        bitsandbytes.optim.GlobalOptimManager.get_instance().register_module_override(
            model.get_input_embeddings(), "weight", {"optim_bits": 32})
        return bitsandbytes.optim.AdamW8bit(groups, lr=1.0)
    return torch.optim.AdamW(groups, lr=1.0)


@contextmanager
def router_without_renormalisation():
    """Scores of Mixtral's experts are shares of all experts, and do not add up to one."""
    def forward(self, hidden):
        logits = functional.linear(hidden.reshape(-1, self.hidden_dim), self.weight)
        scores, chosen = torch.topk(logits.float().softmax(dim=-1), self.top_k)
        return logits, scores, chosen

    with mock.patch.object(MixtralTopKRouter, "forward", forward):
        yield


# Wrong steps of the peer, where that is simpler than one of ours.
MUTATIONS = {"router without renormalisation": router_without_renormalisation}


def forget_lengths(ropes):
    """transformers keeps the frequencies of dynamic rope from a long micro-batch on; ours depend on each alone."""
    for rope in ropes:
        rope.max_seq_len_cached = rope.original_max_seq_len
        rope.inv_freq = rope.original_inv_freq


def train(s, model, batches, precision, states=None):
    """A plain loop as HF Trainer's: the summed loss over all target tokens of a step, clipping, update. In fp16 the loss
    is scaled, and a step without an update does not count in the schedule.

    `states`: becomes the optimizer's of each parameter, by name."""
    model.train()
    autocast = torch.autocast("cpu", dtype=DTYPES[precision]) if autocasts(s, precision) else nullcontext()
    scaler = torch.amp.GradScaler("cpu", enabled=precision == "fp16", init_scale=s.loss_scale or 65536.0)
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    decays = [p for n, p in trained if not is_norm(n) and not n.endswith("bias")]
    others = [p for n, p in trained if is_norm(n) or n.endswith("bias")]
    optimizer = make_optimizer(s, model, [{"params": decays, "weight_decay": s.weight_decay},
                                          {"params": others, "weight_decay": 0.0}])
    ropes = [module for module in model.modules() if getattr(module, "rope_type", None) == "dynamic"]
    losses, norms, gradients, skipped = [], [], None, 0
    for step, micro_batches in enumerate(batches):
        count = sum(int((labels[:, 1:] != -100).sum()) for _, labels, _ in micro_batches)
        total = 0.0
        for ids, labels, positions in micro_batches:
            forget_lengths(ropes)
            with autocast:
                logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
            summed = functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(),
                                              ignore_index=-100, reduction="sum") / count
            scaler.scale(summed).backward()
            total += float(summed.detach())
        if gradients is None:
            gradients = {name: values.float().flatten().clone() for n, p in trained if p.grad is not None
                         for name, values in in_files(n, p.grad.detach())}
        scaler.unscale_(optimizer)
        norms.append(float(torch.nn.utils.clip_grad_norm_([p for _, p in trained], s.clip if s.clip > 0 else 1e30)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(s, step - skipped)
        before = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        skipped += scaler.get_scale() < before
        optimizer.zero_grad()
        losses.append(total)
    if states is not None:
        states |= {n: optimizer.state[p] for n, p in trained}
    return losses, norms, gradients, skipped


def request_of(s):
    per_step = s.micro_batch * s.accumulation * s.ranks
    return {"format_version": 1, "model": "tiny",
            "devices": {"gpus": "cpu" if s.ranks == 1 else f"{s.ranks}xcpu"},
            "method": {"method": s.method, "rank": s.rank, "alpha": s.alpha, "dropout": s.dropout,
                       "rslora": s.rslora, "targets": s.targets, "double_quantization": s.double_quantization,
                       "rank_pattern": [f"{name}={value}" for name, value in s.rank_pattern.items()],
                       "alpha_pattern": [f"{name}={value}" for name, value in s.alpha_pattern.items()],
                       "modules_to_save": s.modules or [], "ensure_weight_tying": ties_modules(s),
                       "precision": s.precision, "optimizer": s.optimizer},
            "data": {"format": "tokens", "seq": s.seq, "packing": s.packing, "shuffle": False, "pad_multiple": 8},
            "training": {"steps": s.steps, "learning_rate": s.learning_rate, "schedule": s.schedule,
                         "warmup_steps": s.warmup_steps, "weight_decay": s.weight_decay, "clip": s.clip,
                         "loss_scale": s.loss_scale, "momentum": s.momentum,
                         "global_batch": per_step, "micro_batch": s.micro_batch, "accumulation": s.accumulation,
                         "eval_every": "none", "seed": s.seed},
            "layout": {"checkpointing": s.checkpointing, "zero": s.zero, "loss_chunk": s.loss_chunk}}


def write_case(s, folder, model, adapter, data, **options):
    """`options`: mutation, gradients, calibrate, print_rows, masks, as step_probe knows them."""
    case = {"request": request_of(s), "model": model, "adapter": adapter, "data": data, "steps": s.steps,
            "threads": s.threads, "native_bf16": s.native_bf16,
            "strategy": {"micro_batch": s.micro_batch, "accumulation": s.accumulation,
                         "checkpointing": s.checkpointing, "zero": s.zero, "loss_chunk": s.loss_chunk}} | options
    path = os.path.join(folder, "case.json")
    with open(path, "w") as file:
        json.dump(case, file)
    return path


def write_tokens(rows, path):
    with open(path, "w") as file:
        json.dump({"input_ids": [ids for ids, _ in rows], "labels": [labels for _, labels in rows]}, file)
