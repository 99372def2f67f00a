"""`python -m codedev` and `torchrun -m codedev`."""

from codedev.cli import main

if __name__ == "__main__":
    main()
