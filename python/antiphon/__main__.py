"""`python -m antiphon` is the command `antiphon`."""

from antiphon._cli import main

main()
