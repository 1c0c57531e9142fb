"""How much inference does at a time, in one table: cells are numbers of 8 bytes.

Sizes change neither results nor their order, only memory and speed; they are large enough that a call into BLAS or
LAPACK is worth its overhead, and small enough for a laptop.
"""

BATCH_CELLS = 4_000_000  # of right-hand sides that are solved for at once, and of their solutions: 32 MB each
REPLICATE_CELLS = 2_000_000  # of the draws of a batch of replicates: 16 MB for each array made from them
CACHED_CELLS = 1_000_000  # of right-hand sides of one solve that still fit into the processor's caches
CACHE_CELLS = 16_000_000  # of columns of an inverse that predictions remember: 128 MB
KEPT_CELLS = 40_000_000  # of columns of an inverse that many groups share: 320 MB
ITERATED_COLUMNS = 32  # right-hand sides on which iterations are quickest
CHUNK_ROWS = 100_000  # distinct rows of data whose matrices are formed at a time
MAX_CELLS = 200_000  # of the grid of marginal means; more is a mistake in what is crossed
SILENT_SECONDS = 2.0  # work that takes longer shows how far it is
