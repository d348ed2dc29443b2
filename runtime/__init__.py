"""The runtime: quantized models on a CPU. Imports the tokenizer, and neither trainer nor graph."""
