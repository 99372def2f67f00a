"""Conversations to tokens: chat templates, their safe rendering, rows for SFT, tables for reward, DPO, KTO and PPO."""
