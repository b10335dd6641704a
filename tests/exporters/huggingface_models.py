"""Transformers of Hugging Face in tiny configurations with random weights, by torch.onnx.export; forms that ONNX Runtime's tools
make of them."""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from transformers import DynamicCache

from exporters.frame import Case, Exported
from exporters.torch_models import DYNAMO, export

SMALL_RESULT = 2e-4  # a difference of numbers that are much larger: ONNX Runtime is no nearer to the model
DEEP = 5e-5  # some layers of normalisations and softmaxes, each of which rounds
SMALL = {
    "vocab_size": 60,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


class Named(nn.Module):
    """A model whose tensors are given in the order of names, and that gives the tensors of its output."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], wanted: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.model, self.names, self.wanted = model, names, wanted

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = self.model(**dict(zip(self.names, tensors)), return_dict=True)
        wanted = self.wanted or [k for k, v in out.items() if isinstance(v, torch.Tensor)]
        return tuple(out[k] for k in wanted)


class Cached(nn.Module):
    """A decoder with its cache as tensors: input_ids, attention_mask, key and value of each layer; and the same out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, mask: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cache = DynamicCache([(past[i], past[i + 1]) for i in range(0, len(past), 2)])
        out = self.model(input_ids=input_ids, attention_mask=mask, past_key_values=cache, use_cache=True)
        return (out.logits, *(t for layer in out.past_key_values.layers for t in (layer.keys, layer.values)))


@dataclass(frozen=True)
class Model:
    """A class of transformers, the values of its configuration, what it gets: (name, shapes of each run, how to make it)."""

    name: str
    config: dict[str, Any]
    inputs: dict[str, tuple[Callable[..., torch.Tensor], list[tuple[int, ...]], dict[int, str]]]
    wanted: tuple[str, ...] = ()
    ways: tuple[str, ...] = ("dynamo 18",)
    about: dict[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        return build(self.name, self.config)


def build(name: str, config: dict[str, Any]) -> nn.Module:
    """The model with what its configuration knows of SMALL and all of `config`; its weights are such that numbers keep their size."""
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    other = getattr(kind.config_class, "attribute_map", {})
    known = inspect.signature(kind.config_class).parameters
    small = {k: v for k, v in SMALL.items() if k in known or (k in other and other[k] not in config)}
    model = kind(kind.config_class(**(small | config))).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data = torch.randn_like(weight) / math.sqrt(weight[0].numel())
        else:
            weight.data += torch.randn_like(weight) / 10
    return model


def ids(*shape: int) -> torch.Tensor:
    return torch.randint(3, 50, shape)


def mask(*shape: int) -> torch.Tensor:
    """The last row has padding at its end."""
    m = torch.ones(shape, dtype=torch.int64)
    m[-1, -2:] = 0
    return m


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


TEXT_AXES = {0: "batch", 1: "steps"}


def encoder(name: str, ways: tuple[str, ...] = ("dynamo 18", "script 17"), **config: Any) -> Model:
    shapes: list[tuple[int, ...]] = [(2, 7), (3, 11)]
    return Model(
        name,
        config,
        {"input_ids": (ids, shapes, TEXT_AXES), "attention_mask": (mask, shapes, TEXT_AXES)},
        ways=ways,
        about={"tolerance": DEEP},
    )


def vision(
    name: str,
    size: int = 32,
    ways: tuple[str, ...] = ("dynamo 18", "script 17"),
    free: bool = True,
    wanted: tuple[str, ...] = (),
    tolerance: float = DEEP,
    **config: Any,
) -> Model:
    runs: list[tuple[int, ...]] = [(2, 3, size, size), *([(1, 3, size, size)] if free else [])]
    return Model(
        name,
        config,
        {"pixel_values": (numbers, runs, {0: "batch"} if free else {})},
        wanted=wanted,
        ways=ways,
        about={"tolerance": tolerance},
    )


def sound(name: str, **config: Any) -> Model:
    convolutions = {
        "conv_dim": (8, 8),
        "conv_kernel": (10, 3),
        "conv_stride": (5, 2),
        "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    }
    return Model(
        name,
        convolutions | config,
        {"input_values": (numbers, [(2, 400), (1, 555)], {0: "batch", 1: "samples"})},
        ways=("dynamo 18", "script 17"),
        about={"tolerance": DEEP},
    )


def every_model() -> Iterator[Model]:
    for name in (
        "BertModel",
        "BertForMaskedLM",
        "RobertaForSequenceClassification",
        "ElectraModel",
        "MPNetModel",
        "RoFormerModel",
        "XLMRobertaModel",
        "CamembertForTokenClassification",
        "ErnieModel",
        "NystromformerModel",
        "DebertaModel",
        "DebertaV2Model",
        "LayoutLMModel",
        "MegatronBertModel",
        "ConvBertModel",
        "SqueezeBertModel",
        "MobileBertModel",
    ):
        more = {
            "NystromformerModel": {"num_landmarks": 4, "segment_means_seq_len": 4},
            "SqueezeBertModel": {"embedding_size": 24},
            "MobileBertModel": {"embedding_size": 12, "true_hidden_size": 12, "intra_bottleneck_size": 12},
            "ConvBertModel": {"head_ratio": 2, "conv_kernel_size": 3},
        }.get(name, {})
        if "Deberta" in name:
            more = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
        if name in ("RobertaForSequenceClassification", "XLMRobertaModel", "CamembertForTokenClassification"):
            more = {"max_position_embeddings": 40}
        yield encoder(name, **more)
    yield encoder("DistilBertModel", dim=24, n_heads=4, n_layers=2, hidden_dim=40)
    yield encoder("AlbertModel", embedding_size=12)
    yield encoder("ModernBertModel", global_attn_every_n_layers=2, local_attention=6, cls_token_id=1, sep_token_id=2)
    yield encoder("FNetModel")
    yield encoder("BertForQuestionAnswering", ways=("dynamo 18", "dynamo 23", "script 14"))

    yield vision("ViTModel", image_size=32, patch_size=8, ways=("dynamo 18", "dynamo 23", "script 14", "script 17"))
    yield vision("DeiTForImageClassification", image_size=32, patch_size=8)
    yield vision("BeitModel", image_size=32, patch_size=8)
    yield vision("Dinov2Model", image_size=32, patch_size=8)
    yield vision("SwinModel", image_size=32, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=4)
    yield vision(
        "Swinv2Model", image_size=32, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=4
    )
    yield vision("ConvNextModel", hidden_sizes=[8, 12], depths=[1, 2], num_stages=2)
    yield vision("ConvNextV2Model", hidden_sizes=[8, 12], depths=[1, 2], num_stages=2)
    yield vision("ResNetModel", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    yield vision("RegNetModel", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], groups_width=4)
    yield vision("MobileNetV2Model", depth_multiplier=0.25, min_depth=4)
    yield vision(
        "MobileViTModel",
        image_size=32,
        hidden_sizes=[12, 16, 20],
        neck_hidden_sizes=[4, 8, 8, 12, 16, 20, 24],
        num_attention_heads=2,
    )
    yield vision(
        "SegformerForSemanticSegmentation",
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 4],
        decoder_hidden_size=12,
    )
    yield vision("PoolFormerModel", hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])
    yield vision("EfficientNetModel", width_coefficient=0.2, depth_coefficient=0.2, hidden_dim=256)
    yield vision(
        "DPTForDepthEstimation",
        image_size=32,
        patch_size=8,
        num_hidden_layers=4,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        is_hybrid=False,
        reassemble_factors=[4, 2, 1, 0.5],
        backbone_config=None,
        tolerance=SMALL_RESULT,
    )
    yield vision(
        "LevitModel",
        image_size=32,
        hidden_sizes=[16, 24, 32],
        num_attention_heads=[2, 2, 2],
        depths=[1, 1, 1],
        key_dim=[8, 8, 8],
    )
    yield vision(
        "YolosForObjectDetection",
        image_size=[32, 32],
        patch_size=8,
        num_detection_tokens=5,
        wanted=("logits", "pred_boxes"),
    )
    resnet = {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 8, 16, 16],
        "depths": [1, 1, 1, 1],
        "layer_type": "basic",
        "out_features": ["stage4"],
    }
    yield vision(
        "DetrForObjectDetection",
        free=False,
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=resnet,
        d_model=24,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=6,
        wanted=("logits", "pred_boxes"),
    )
    yield vision(
        "UperNetForSemanticSegmentation",
        free=False,
        backbone_config=resnet | {"out_features": ["stage1", "stage2", "stage3", "stage4"]},
        hidden_size=16,
        pool_scales=[1, 2],
        auxiliary_in_channels=16,
        auxiliary_channels=8,
        ways=("dynamo 18", "script 17"),
        wanted=("logits",),
    )
    tiny_swin = {
        "model_type": "swin",
        "image_size": 32,
        "patch_size": 2,
        "embed_dim": 8,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 2, 4],
        "window_size": 4,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    yield vision(
        "Mask2FormerForUniversalSegmentation",
        size=64,
        free=False,
        backbone_config=tiny_swin,
        hidden_dim=32,
        mask_feature_size=32,
        feature_size=32,
        num_attention_heads=2,
        encoder_layers=1,
        decoder_layers=2,
        encoder_feedforward_dim=20,
        dim_feedforward=20,
        num_queries=5,
        wanted=("class_queries_logits", "masks_queries_logits"),
    )
    yield Model(
        "CLIPModel",
        {
            "text_config": SMALL,
            "vision_config": {
                "hidden_size": 24,
                "intermediate_size": 40,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "image_size": 32,
                "patch_size": 8,
            },
            "projection_dim": 12,
        },
        {
            "input_ids": (ids, [(3, 7)], {}),
            "pixel_values": (numbers, [(2, 3, 32, 32)], {}),
            "attention_mask": (mask, [(3, 7)], {}),
        },
        wanted=("logits_per_image", "text_embeds", "image_embeds"),
        ways=("dynamo 18", "script 17"),
        about={"tolerance": DEEP},
    )

    yield sound("Wav2Vec2ForCTC")
    yield sound("HubertModel")
    yield sound("WavLMModel", num_buckets=8, max_bucket_distance=16)
    yield sound("SEWModel", squeeze_factor=2, conv_dim=(8, 8))
    yield Model(
        "ASTModel",
        {"patch_size": 4, "time_stride": 4, "frequency_stride": 4, "max_length": 24, "num_mel_bins": 16},
        {"input_values": (numbers, [(2, 24, 16)], {})},
        ways=("dynamo 18", "script 17"),
        about={"tolerance": DEEP},
    )

    two = {
        "d_model": 24,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 40,
        "decoder_ffn_dim": 40,
        "decoder_start_token_id": 1,
    }
    t5 = {"d_model": 24, "d_kv": 6, "d_ff": 40, "num_layers": 2, "num_heads": 4, "relative_attention_num_buckets": 8}
    source: Any = (ids, [(2, 7), (3, 5)], {0: "batch", 1: "source"})
    target: Any = (ids, [(2, 4), (3, 6)], {0: "batch", 1: "target"})
    for name, config in {
        "T5ForConditionalGeneration": t5,
        "MT5ForConditionalGeneration": t5,
        "BartForConditionalGeneration": two,
        "MarianMTModel": two,
        "PegasusForConditionalGeneration": two,
        "M2M100ForConditionalGeneration": two,
        "BlenderbotForConditionalGeneration": two,
    }.items():
        yield Model(
            name,
            config,
            {"input_ids": source, "decoder_input_ids": target},
            wanted=("logits",),
            ways=("dynamo 18", "script 17"),
            about={"tolerance": DEEP},
        )
    yield Model(
        "WhisperForConditionalGeneration",
        two | {"num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 16},
        {"input_features": (numbers, [(2, 8, 40)], {}), "decoder_input_ids": (ids, [(2, 4)], {})},
        wanted=("logits",),
        ways=("dynamo 18", "script 17"),
        about={"tolerance": DEEP},
    )
    yield Model(
        "TrOCRForCausalLM",
        two | {"cross_attention_hidden_size": 24},
        {"input_ids": (ids, [(2, 4)], {}), "encoder_hidden_states": (numbers, [(2, 5, 24)], {})},
        wanted=("logits",),
        about={"tolerance": DEEP},
    )


# Configurations of decoders: (batch, heads of keys, size of a head) follow from what the first step gives.
DECODERS: dict[str, dict[str, Any]] = {
    "GPT2LMHeadModel": {"n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 32},
    "LlamaForCausalLM": {"num_key_value_heads": 2},
    "MistralForCausalLM": {"num_key_value_heads": 2, "sliding_window": 6},
    "Qwen2ForCausalLM": {"num_key_value_heads": 2},
    "Qwen3ForCausalLM": {"num_key_value_heads": 2, "head_dim": 8},
    "GemmaForCausalLM": {"num_key_value_heads": 1, "head_dim": 8},
    "Gemma2ForCausalLM": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16},
    "PhiForCausalLM": {"hidden_size": 32, "partial_rotary_factor": 0.5, "num_key_value_heads": 4},
    "Phi3ForCausalLM": {"num_key_value_heads": 2},
    "OPTForCausalLM": {"ffn_dim": 40, "word_embed_proj_dim": 24},
    "BloomForCausalLM": {"n_layer": 2, "n_head": 4},
    "GPTNeoForCausalLM": {
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 4,
    },
    "GPTNeoXForCausalLM": {},
    "GPTJForCausalLM": {"n_embd": 24, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 32},
    "FalconForCausalLM": {"alibi": False, "multi_query": True},
    "StableLmForCausalLM": {"num_key_value_heads": 2},
    "OlmoForCausalLM": {"num_key_value_heads": 2},
    "CohereForCausalLM": {"num_key_value_heads": 2},
    "GraniteForCausalLM": {"num_key_value_heads": 2},
    "Starcoder2ForCausalLM": {"num_key_value_heads": 2},
    "GPTBigCodeForCausalLM": {"n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 32},
    "MptForCausalLM": {"d_model": 24, "n_heads": 4, "n_layers": 2, "max_seq_len": 32},
    "CodeGenForCausalLM": {"n_embd": 24, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 32},
    "MixtralForCausalLM": {"num_key_value_heads": 2, "num_local_experts": 4},
}


# Models with an operator that dynamo=False has no rule for.
NOT_SCRIPTED = ("MixtralForCausalLM", "CohereForCausalLM", "FNetModel", "UperNetForSemanticSegmentation")


def cases() -> Iterator[Case]:
    for model in every_model():
        for way in model.ways if model.name not in NOT_SCRIPTED else ("dynamo 18",):
            yield Case("huggingface", model.name, way, lambda m=model, w=way: exported(m, w), **model.about)
    for name in DECODERS:
        for way in ("dynamo 18",) if name in NOT_SCRIPTED else ("dynamo 18", "script 17"):
            yield Case("huggingface", f"{name} cache", way, lambda n=name, w=way: decoder(n, w), tolerance=DEEP)
    for tool, change in TOOLS.items():
        for model in [m for m in every_model() if m.name in TOOLED]:
            made: Callable[[], Exported] = lambda m=model, c=change: c(exported(m, "script 17"), m.name)  # noqa: E731
            yield Case(
                "huggingface", model.name, tool, made, different=REWRITTEN[tool], tolerance=QUANTISED.get(tool, DEEP)
            )


def exported(model: Model, way: str) -> Exported:
    module = Named(model.build(), tuple(model.inputs), model.wanted)
    runs = [
        tuple(make(*shapes[i]) for make, shapes, _ in model.inputs.values())
        for i in range(len(next(iter(model.inputs.values()))[1]))
    ]
    free = [axes for _, _, axes in model.inputs.values()]
    return export(module, runs, way, _dynamic(free, way, list(model.inputs)), list(model.inputs))


def _dynamic(free: list[dict[int, str]], way: str, names: list[str]) -> Any:
    if not any(free):
        return None
    if way.startswith(DYNAMO):
        return (tuple(dict.fromkeys(axes, torch.export.Dim.AUTO) for axes in free),)
    return dict(zip(names, free))


def decoder(name: str, way: str) -> Exported:
    """A prompt after some steps, then steps of one token each, which go on with the cache of the last."""
    module = Cached(build(name, DECODERS[name])).eval()
    with torch.no_grad():
        first = module.model(input_ids=ids(2, 3), use_cache=True).past_key_values
        past = tuple(t for layer in first.layers for t in (layer.keys, layer.values))
        runs = []
        for steps in (2, 1, 1):
            length = past[0].shape[2] + steps
            runs.append((ids(2, steps), torch.ones(2, length, dtype=torch.int64), *past))
            past = tuple(t.clone() for t in module(*runs[-1])[1:])
    axes = [{0: "batch", 1: "steps"}, {0: "batch", 1: "all"}, *[{0: "batch", 2: "past"}] * len(past)]
    names = ["input_ids", "attention_mask", *(f"past.{i // 2}.{('key', 'value')[i % 2]}" for i in range(len(past)))]
    dynamic = _dynamic(axes, way, names)
    if way.startswith(DYNAMO):
        dynamic = (dynamic[0][0], dynamic[0][1], dynamic[0][2:])
    return export(module, runs, way, dynamic, names)


# --- what ONNX Runtime's tools make of a file ----------------------------------------------------------------------------
TOOLED = (
    "BertModel",
    "ViTModel",
    "BartForConditionalGeneration",
    "RobertaForSequenceClassification",
    "ConvNextModel",
    "ResNetModel",
    "SwinModel",
    "T5ForConditionalGeneration",
    "DistilBertModel",
)


def _by_files(change: Callable[[Path, Path], None]) -> Callable[[Exported, str], Exported]:
    def changed(exported: Exported, _name: str) -> Exported:
        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
            before.write_bytes(exported.data)
            change(before, after)
            return Exported(after.read_bytes(), exported.feeds, exported.own)

    return changed


def _optimised(level: int, half: bool = False) -> Callable[[Exported, str], Exported]:
    def changed(exported: Exported, name: str) -> Exported:
        import onnx
        from onnxruntime.transformers import optimizer

        kinds = {
            "Bert": "bert",
            "Rob": "bert",
            "Dist": "bert",
            "ViT": "vit",
            "Bart": "bart",
            "Swin": "swin",
            "T5": "bert",
        }
        kind = next((k for n, k in kinds.items() if name.startswith(n)), "bert")
        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
            before.write_bytes(exported.data)
            model = optimizer.optimize_model(str(before), kind, num_heads=4, hidden_size=24, opt_level=level)
            if half:
                model.convert_float_to_float16(keep_io_types=True)
            model.save_model_to_file(str(after))
            return Exported(onnx.load(after).SerializeToString(), exported.feeds, exported.own)

    return changed


def _dynamically(before: Path, after: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(before, after, weight_type=QuantType.QUInt8)


def _statically(form: str, per_channel: bool) -> Callable[[Exported, str], Exported]:
    def changed(exported: Exported, _name: str) -> Exported:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

        class Reader(CalibrationDataReader):
            def __init__(self) -> None:
                self.left = iter(exported.feeds)

            def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
                return next(self.left, None)

        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
            before.write_bytes(exported.data)
            quantize_static(
                before,
                after,
                Reader(),
                quant_format=QuantFormat[form],
                per_channel=per_channel,
                weight_type=QuantType.QInt8,
            )
            return Exported(after.read_bytes(), exported.feeds, exported.own)

    return changed


def _nbits(bits: int) -> Callable[[Exported, str], Exported]:
    def changed(exported: Exported, _name: str) -> Exported:
        import onnx
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        tool = MatMulNBitsQuantizer(onnx.load_from_string(exported.data), bits=bits, block_size=16, is_symmetric=False)
        tool.process()
        return Exported(tool.model.model.SerializeToString(), exported.feeds, exported.own)

    return changed


# A sum of 8-bit products that rounds to the next step is one step of an output's scale away.
STEP = 2e-2
TOOLS: dict[str, Callable[[Exported, str], Exported]] = {
    "optimizer 0": _optimised(0),
    "optimizer 2": _optimised(2),
    "optimizer half": _optimised(1, half=True),
    "dynamic uint8": _by_files(_dynamically),
    "static QDQ": _statically("QDQ", per_channel=False),
    "static QDQ rows": _statically("QDQ", per_channel=True),
    "static QOperator": _statically("QOperator", per_channel=False),
    "4 bits": _nbits(4),
    "8 bits": _nbits(8),
}
REWRITTEN = {tool: "" if tool in ("optimizer 0", "optimizer 2") else "numbers of fewer bits" for tool in TOOLS}
QUANTISED = {
    "dynamic uint8": STEP,
    "static QDQ": STEP,
    "static QDQ rows": STEP,
    "static QOperator": STEP,
    "optimizer half": 5e-3,
}
