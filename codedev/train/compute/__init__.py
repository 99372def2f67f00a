"""The arithmetic of a step: attention that keeps documents apart, the loss without logits, optimizers, several processes."""
