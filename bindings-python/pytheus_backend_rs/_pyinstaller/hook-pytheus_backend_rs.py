"""Lists what PyInstaller does not find by itself: a module that C code imports, the callables of a package
without a compiled module, and the version of pytheus."""

from PyInstaller.utils.hooks import copy_metadata  # type: ignore[import-not-found,import-untyped,unused-ignore]

hiddenimports = ["_cffi_backend", "pytheus_backend_rs._portable"]
datas = copy_metadata("pytheus")
