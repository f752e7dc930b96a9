"""Every signal once more, in NumPy: the readable definition that tests compare the kernels with, and the fallback of
machines without them. Not fast. Imports NumPy, which a live host need not have.
"""
