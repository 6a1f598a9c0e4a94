"""Computations, one folder each, one file per variant.

They import nothing of ours but each other, use no MPI, and read and write no files.
`rankwise.node.variants` loads one variant of a kernel, given the kernel's package.
"""
