"""Lists what PyInstaller does not find by itself: a module that C code imports, and the version of
pytheus."""

from PyInstaller.utils.hooks import copy_metadata  # type: ignore[import-not-found,import-untyped,unused-ignore]

hiddenimports = ["_cffi_backend"]
datas = copy_metadata("pytheus")
