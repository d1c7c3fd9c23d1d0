"""How a step becomes a program."""
