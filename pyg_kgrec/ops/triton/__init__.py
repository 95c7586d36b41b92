"""Backend ``triton``: the loops of :mod:`pyg_kgrec.ops.numba` as GPU kernels, one program per piece of a segment.

A file holds the kernels of an operation and, below them, what launches them.

No atomics: every sum runs over a sorted segment, and the partial results of long segments are merged in a fixed
order. Tables may be float16 or bfloat16; sums are float32 (float64 for float64 tables). Offsets into tables are
64-bit. With ``TRITON_INTERPRET=1`` set before Triton is imported, the same kernels run on the CPU.

Channels are laid out as [heads, channels of a head], both padded to powers of two and masked.
"""
