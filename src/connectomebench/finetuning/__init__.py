"""Fine-tuning of Qwen3-VL by LoRA: settings, data, trainer, checkpoints and what is saved."""
