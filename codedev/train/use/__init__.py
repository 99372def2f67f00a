"""Using a trained model: generate, chat, serve, merge; and the files that let plain transformers use it."""
