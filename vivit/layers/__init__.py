"""Layer rules: how the uses of parameters become Gram matrix contributions."""
