"""Shard directories as other trainers read them: Hugging Face datasets, Megatron-LM, MosaicML streaming, NumPy."""
