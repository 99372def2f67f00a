"""From a corpus to packed shards: train a tokenizer, encode, pack, trace a token back to its document."""
