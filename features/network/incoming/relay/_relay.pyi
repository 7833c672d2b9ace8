from typing import Any

ffi: Any  # cffi's objects have no types of their own; native.py is their only user
lib: Any
