"""Load vision-language models, full or as LoRA adapters, from a folder or the Hub.

Only safetensors are read, never pickles, and code from a repository is never run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.models.model_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    REPO_ID,
    ModelFiles,
    adapter_revision,
    fetch_model,
    open_files,
    read_json,
    reason_of,
)
from connectomebench.models.model_record import FILE_NAME, read_record
from connectomebench.models.prompt import PROMPT_VERSION
from connectomebench.models.vlm import VisionLanguageModel

_WEIGHT_FILE = re.compile(r"model[\w.-]*\.safetensors", re.ASCII)
_SHAPE = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "num_experts",
    "vocab_size",
    "patch_size",
    "spatial_merge_size",
    "out_hidden_size",
    "deepstack_visual_indexes",
)


def load_vlm(
    name: str | Path,
    revision: str | None = None,
    base: str | Path | None = None,
    *,
    batch_size: int = 4,
    device: str | None = None,
) -> VisionLanguageModel:
    """Load a vision-language model, or a LoRA adapter with its base.

    Weights are bfloat16 on a GPU and float32 on a CPU, all on one device.

    Parameters
    ----------
    name
        Folder, or ``ORG/NAME`` on the Hub.
    revision
        Branch, tag or commit on the Hub; None takes ``main``.
    base
        Base of an adapter, a folder or ``ORG/NAME``; None takes the one the adapter names.
    batch_size
        Rows per batch.
    device
        Torch device; None takes the GPU if available.

    Returns
    -------
    VisionLanguageModel
        Its ``revision`` changes with weights, settings, base and prompt. An adapter's revision is a hash of
        its files, so publishing a folder does not change it.

    Raises
    ------
    ConnectomeBenchError
        If files are missing or pickled, the model takes no images, or adapter and base do not match.
    """
    device = device or _best_device()
    source = open_files(str(name), revision)
    if (source.folder / FILE_NAME).exists() and (kind := read_record(source.folder).kind) not in ("adapter", "vlm"):
        raise ConnectomeBenchError(f"{source.name} is a model of kind {kind}, not a vision-language model")
    if (source.folder / ADAPTER_CONFIG).exists():
        foundation = find_base(source, base)
        check_base(source, foundation)
        model = _load_adapter(source, foundation, device)
        revision = adapter_revision(source.folder, foundation.identity)
        processor = load_processor(processor_files(source, foundation))
    elif base is not None:
        raise ConnectomeBenchError(f"{source.name} is a full model, not an adapter; leave out --base")
    else:
        return _load_whole(source, device, batch_size)
    return VisionLanguageModel(source.name, revision, model, processor, batch_size)


def load_base(
    name: str | Path, revision: str | None = None, base: str | Path | None = None, *, batch_size: int = 4
) -> VisionLanguageModel:
    """Load the base model of an adapter, without the adapter.

    Parameters
    ----------
    name, revision, base, batch_size
        As for :func:`load_vlm`.

    Raises
    ------
    ConnectomeBenchError
        As for :func:`load_vlm`; also if it is not an adapter.
    """
    source = open_files(str(name), revision)
    if not (source.folder / ADAPTER_CONFIG).exists():
        raise ConnectomeBenchError(f"{source.name} is no adapter, so it has no base model")
    foundation = find_base(source, base)
    check_base(source, foundation)
    return _load_whole(foundation, _best_device(), batch_size)


def _load_whole(source: ModelFiles, device: str, batch_size: int) -> VisionLanguageModel:
    revision = content_key(source.identity, PROMPT_VERSION)[:16]
    return VisionLanguageModel(source.name, revision, _load_model(source, device), load_processor(source), batch_size)


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def base_fingerprint(config: Any) -> str:
    """Hash the architecture of a model: 32 hex digits, equal for all models an adapter fits.

    Parameters
    ----------
    config
        A transformers config. Types, widths, depths, heads and vocabulary of the language and vision part count;
        weights do not, so two trainings of one architecture have the same hash.
    """
    parts = {
        name: {key: getattr(part, key, None) for key in _SHAPE}
        for name in ("text_config", "vision_config")
        if (part := getattr(config, name, None)) is not None
    }
    return content_key({"model_type": config.model_type, "vocab_size": getattr(config, "vocab_size", None), **parts})


def find_base(adapter: ModelFiles, base: str | Path | None) -> ModelFiles:
    """Find the base of an adapter; an adapter from the Hub may not name a local folder."""
    config = read_json(adapter.folder / ADAPTER_CONFIG)
    if config.get("peft_type") != "LORA" or config.get("megatron_config"):
        raise ConnectomeBenchError(f"{adapter.name} is not a plain LoRA adapter; only those can be loaded")
    if base is not None:
        return open_files(str(base), None)
    named, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(named, str) or not isinstance(revision, str | None):
        raise ConnectomeBenchError(f"{adapter.name} does not name its base; name it with --base")
    if adapter.commit is None and Path(named).is_dir():
        return open_files(named, None)
    if not REPO_ID.fullmatch(named):
        raise ConnectomeBenchError(
            f"{adapter.name} was trained on the folder {named[:200]!r}, which is not here; name the base with --base"
        )
    return fetch_model(named, revision)


def check_base(adapter: ModelFiles, base: ModelFiles) -> None:
    """Raise if the adapter's record names a base of another architecture, before loading weights."""
    from transformers import AutoConfig

    if not (adapter.folder / FILE_NAME).exists():
        return
    expected = read_record(adapter.folder).config.get("base_fingerprint")
    with told_in_one_line(f"cannot read the config of {base.name}"):
        config = AutoConfig.from_pretrained(base.folder, trust_remote_code=False)
    if expected is not None and expected != base_fingerprint(config):
        raise _wrong_base(adapter, base, "the two models have different architectures")


def _load_model(source: ModelFiles, device: str) -> Any:
    import torch
    from transformers import AutoModelForImageTextToText, GenerationConfig

    check_weight_files(source)
    # load straight to the GPU: a large model may not fit in main memory
    place = {} if device == "cpu" else {"device_map": device}
    with told_in_one_line(f"cannot load {source.name} as a vision-language model"):
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            source.folder,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32 if device == "cpu" else torch.bfloat16,
            output_loading_info=True,
            **place,
        )
    model, loading = loaded
    if loading["missing_keys"]:
        missing = min(loading["missing_keys"])
        raise ConnectomeBenchError(f"{source.name} lacks weights (for example {missing}); fetch it again")
    # the model's own sampling and repetition settings would change a greedy reply
    ends = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=ends.bos_token_id, eos_token_id=ends.eos_token_id, pad_token_id=ends.pad_token_id
    )
    return model


def check_weight_files(source: ModelFiles) -> None:
    """Raise on missing or pickled weights, or an index that points outside the folder."""
    if not (source.folder / "config.json").exists():
        raise ConnectomeBenchError(
            f"{source.name} holds neither config.json nor {ADAPTER_CONFIG}, so it is not a model"
        )
    if not any(source.folder.glob("model*.safetensors")):
        raise ConnectomeBenchError(f"{source.name} has no weights in safetensors, and pickled ones are never loaded")
    index = source.folder / "model.safetensors.index.json"
    if index.exists():
        files = read_json(index).get("weight_map")
        if not isinstance(files, dict) or not all(_WEIGHT_FILE.fullmatch(str(file)) for file in files.values()):
            raise ConnectomeBenchError(f"{index.name} of {source.name} names files that are not weights; do not use it")


def _load_adapter(adapter: ModelFiles, base: ModelFiles, device: str) -> Any:
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ImportError:
        raise ConnectomeBenchError(
            f"{adapter.name} is an adapter, which needs packages: pip install 'connectomebench[vlm]'"
        ) from None

    stored = _stored_weights(adapter)
    model = _load_model(base, device)
    try:
        adapted = PeftModel.from_pretrained(model, str(adapter.folder), torch_device=device)
    except Exception as error:  # of many kinds too
        raise _wrong_base(adapter, base, reason_of(error)) from error
    # PEFT only warns about missing weights, and drops weights it cannot place
    wrong = stored ^ set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if wrong:
        raise _wrong_base(adapter, base, f"{len(wrong)} weights have no counterpart, for example {min(wrong)}")
    return adapted


def _stored_weights(adapter: ModelFiles) -> set[str]:
    """Return the names of an adapter's weights."""
    from safetensors import SafetensorError, safe_open

    weights = adapter.folder / ADAPTER_WEIGHTS
    if not weights.exists():
        raise ConnectomeBenchError(f"{adapter.name} has no {ADAPTER_WEIGHTS}, and pickled weights are never loaded")
    try:
        with safe_open(weights, "pt") as opened:
            return set(opened.keys())
    except SafetensorError:
        raise ConnectomeBenchError(f"{ADAPTER_WEIGHTS} of {adapter.name} is damaged; fetch it again") from None


def _wrong_base(adapter: ModelFiles, base: ModelFiles, reason: str) -> ConnectomeBenchError:
    return ConnectomeBenchError(
        f"adapter {adapter.name} does not fit {base.name}: {reason}; name the right base with --base"
    )


def processor_files(adapter: ModelFiles, base: ModelFiles) -> ModelFiles:
    """Return where the processor of an adapter is: with it, or with its base."""
    own = any(adapter.folder.glob("*processor_config.json")) and (adapter.folder / "tokenizer.json").exists()
    return adapter if own else base


def load_processor(source: ModelFiles) -> Any:
    """Load tokenizer, image processor and chat template of a model.

    Raises
    ------
    ConnectomeBenchError
        If they are damaged, or the model takes no images or no chat.
    """
    from transformers import AutoProcessor

    with told_in_one_line(f"cannot load the processor of {source.name}"):
        processor = AutoProcessor.from_pretrained(source.folder, trust_remote_code=False)
    if getattr(processor, "image_processor", None) is None or getattr(processor, "chat_template", None) is None:
        raise ConnectomeBenchError(f"the processor of {source.name} takes no images or no chat; choose another model")
    return processor


@contextmanager
def told_in_one_line(what: str) -> Iterator[None]:
    """Convert any library error over a damaged folder to a ConnectomeBenchError that begins with ``what``."""
    try:
        yield
    except Exception as error:  # transformers raises many types over a damaged folder
        raise ConnectomeBenchError(f"{what}: {reason_of(error)}") from error
