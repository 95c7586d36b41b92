"""Backend ``numba``: one pass over the edges on the CPU, without [E, d] intermediates.

A file holds the loops of an operation and, below them, what calls them; :mod:`.rows` and :mod:`.hashing` hold the
loops that several of them share, :mod:`.segments` the arrays of an index, :mod:`.threads` who runs the loops.

Why Numba and not C++: it installs as a wheel where no compiler is, and compiles once (about a second per kernel,
then cached on disk beside the package, or in the user's cache folder where that is read-only), while an inline C++
extension needs a compiler, ninja and half a minute at first use. It is imported at the first call of an operation,
never with the package.

Loops work on a range ``lo .. hi`` of pieces (see :class:`pyg_kgrec.ops.Segments`) or rows, hold no [E, d]
intermediate, release the GIL, and return how many indices they found out of range: such an index is never followed.
Loops called ``_merge…`` join the partial results of segments that consist of several pieces, in order.
"""
