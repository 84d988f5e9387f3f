"""`dicom-node` and `python -m dicom_node`."""

from __future__ import annotations

from dicom_node.cli.app import app


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
