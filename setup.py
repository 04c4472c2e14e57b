"""Tell setuptools where the C core is described; everything else stands in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["native/build.py:ffibuilder"])
