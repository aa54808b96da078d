"""Pages of the documentation that are made from the types of the API.

``python -m dynawatt.reference --write`` makes ``docs/llmservice.md`` and
``docs/troubleshooting.md``; ``--check`` fails when they differ.
"""
