"""Reading a checkpoint: its files, tensor names, hyperparameters and vocabulary."""
