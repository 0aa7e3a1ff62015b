"""``python -m napari_teramind``: the command line, for jobs started with a given interpreter."""

from napari_teramind.cli import main

if __name__ == "__main__":
    main()
