"""LoRA fine-tuning of Qwen3-VL: settings, data, trainer, checkpoints and saved files."""
