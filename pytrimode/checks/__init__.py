"""Checks of the installation and its devices: `pytrimode doctor`."""
