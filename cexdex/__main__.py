"""`python -m cexdex`, as the console script `cexdex`."""

from cexdex.cli import main

if __name__ == "__main__":
    main()
