"""`dicom-node` and `python -m dicom_node`."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    # Each child process imports this module again; it must not drag every library along.
    from dicom_node.cli.app import app

    app()


if __name__ == "__main__":
    main()
