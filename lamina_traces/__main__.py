"""``python -m lamina_traces``."""

from lamina_traces.cli.app import main

if __name__ == "__main__":
    main()
