"""``python -m dynawatt`` is the ``dynawatt`` command."""

from dynawatt.cli.main import main

main()
